# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A whole node in one plan."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import Options
from ansible_collections.peersys.pki.plugins.module_utils._authentication import certification_needs
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._object_module import plan_result
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    KINDS,
    specification_from,
)

Specification = dict[str, t.Any]
Objects = dict[str, list[Specification]]
# How the roles are called by which nodes are isolated; the agent's command writes them.
ISOLATING_ROLE = "isolated-"


def node_options() -> Options:
    """Return the options of a whole node: one list per kind, and what to purge."""
    kinds: Options = {
        kind: {
            "type": "list",
            "elements": "dict",
            "options": spec.as_suboptions(),
            "no_log": False,
        }
        for kind, spec in KINDS.items()
    }
    purge = {"type": "list", "elements": "str", "choices": list(KINDS), "default": []}
    return {**kinds, "purge": purge}


def wanted_objects(params: t.Mapping[str, t.Any]) -> Objects:
    """Return the specifications in ``params`` by kind; a kind that isn't given is left out."""
    return {
        kind: [specification_from(entry, spec) for entry in params[kind]]
        for kind, spec in KINDS.items()
        if params[kind] is not None
    }


def put_node(
    client: AdminClient, wanted: Objects, purge: t.Sequence[str], *, dry_run: bool
) -> dict[str, t.Any]:
    """Make the node as ``wanted``; of the kinds in ``purge`` nothing else remains."""
    body = completed(wanted, present_objects(client), purge) if purge else wanted
    plan = client.put("node", body=body, about="node", dry_run=dry_run)
    shown = [
        {key: step[key] for key in ("action", "kind", "name")} for step in plan.get("steps", [])
    ]
    result = {**plan_result(plan), "objects": plan.get("objects", {}), "steps": shown}
    if "authenticators" in wanted:
        found = client.get("objects", "authenticators", about="authenticators")
        result["authenticators"] = authenticators(wanted["authenticators"], found)
    return result


def authenticators(
    wanted: t.Sequence[Specification], found: t.Sequence[t.Mapping[str, t.Any]]
) -> list[dict[str, t.Any]]:
    """Return for each wanted authenticator its spec and what its certification needs."""
    by_name = {described["spec"]["name"]: described for described in found}
    return [
        {"name": spec["name"], "spec": spec, **certification_needs(by_name.get(spec["name"], {}))}
        for spec in wanted
    ]


def present_objects(client: AdminClient) -> Objects:
    """Return the specifications that the node holds now, by kind."""
    described = client.get("node")["objects"]
    return {kind: [one["spec"] for one in described.get(kind, [])] for kind in KINDS}


def completed(wanted: Objects, present: Objects, purge: t.Sequence[str]) -> dict[str, t.Any]:
    """Return the request body for ``wanted`` on a node that holds ``present``.

    The agent purges all kinds or none, so kinds that aren't to be purged are listed as they are,
    and so are roles that take everything from a node which was taken over.
    """
    body: dict[str, t.Any] = {kind: list(wanted.get(kind, ())) for kind in KINDS}
    for kind in KINDS:
        names = {spec["name"] for spec in body[kind]}
        body[kind] += [
            spec
            for spec in present[kind]
            if spec["name"] not in names and (kind not in purge or _isolates(kind, spec))
        ]
    return {**body, "purge": True}


def _isolates(kind: str, spec: Specification) -> bool:
    """Return whether ``peersys peer isolate`` made the object; only a person takes that back."""
    name: str = spec["name"]
    return kind == "peer_roles" and name.startswith(ISOLATING_ROLE)
