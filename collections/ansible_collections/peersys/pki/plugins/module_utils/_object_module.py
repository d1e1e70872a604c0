# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The one module behind every managed object: a specification goes in, a plan comes out."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._argspec import (
    CONNECTION,
    STATE,
    ArgumentSpec,
    client_of,
)
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._errors import (
    AgentError,
    AgentRefused,
    AgentUnreachable,
)
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    specification_from,
)

Result = dict[str, t.Any]

_SECRET_FIELDS = frozenset({"token_sha256"})


def run_object_module(
    kind: str,
    spec: ArgumentSpec,
    *,
    fixed: t.Mapping[str, t.Any] | None = None,
    besides: ArgumentSpec | None = None,
    afterwards: t.Callable[[AdminClient, AnsibleModule], Result] | None = None,
) -> None:
    """Run a whole module for one object of ``kind``; ``fixed`` fields are no options of it.

    ``besides`` are options that aren't the object's; ``afterwards`` acts by them on an object that
    exists, and returns results that come on top.
    """
    options = CONNECTION.merge(STATE).merge(spec.of_an_object())
    module = (options if besides is None else options.merge(besides)).create_module()

    def act(client: AdminClient) -> Result:
        name = module.params["name"]
        if module.params["state"] == "absent":
            return delete_object(client, kind, name, dry_run=module.check_mode)
        wanted = {**specification_from(module.params, spec), **(fixed or {})}
        result = put_object(client, kind, name, wanted, dry_run=module.check_mode)
        more = {} if afterwards is None else afterwards(client, module)
        return {**result, **more, "changed": result["changed"] or more.get("changed", False)}

    finish(module, act, foreseen=lambda: foreseen_object(module, kind, spec))


def finish(
    module: AnsibleModule,
    act: t.Callable[[AdminClient], Result],
    *,
    foreseen: t.Callable[[], Result] | None = None,
) -> None:
    """End the module with what ``act`` returns, or with the agent's own words of refusal.

    In check mode an agent that isn't there yet is no failure: ``foreseen`` says what a first run
    would do.
    """
    try:
        module.exit_json(**act(client_of(module)))
    except AgentUnreachable as error:
        if not module.check_mode or foreseen is None:
            module.fail_json(msg=str(error))
        module.warn(f"{error}. Foreseen as on a new node")
        module.exit_json(**foreseen())
    except AgentError as error:
        module.fail_json(msg=str(error), **error.details())


def put_object(
    client: AdminClient, kind: str, name: str, wanted: dict[str, t.Any], *, dry_run: bool
) -> Result:
    """Make the object as ``wanted``. Returns changed, diff and the object with its fresh state."""
    about = f"{kind} {name}"
    plan = client.put("objects", kind, name, body=wanted, about=about, dry_run=dry_run)
    touched = plan.get("objects", {}).get(kind, {}).get(name)
    if touched is None and not dry_run:
        touched = client.get("objects", kind, name, about=about)
    return {**plan_result(plan), "object": touched or {"spec": wanted, "state": {}}}


def delete_object(client: AdminClient, kind: str, name: str, *, dry_run: bool) -> Result:
    """Remove the object; one that is absent already is no change."""
    plan = client.delete("objects", kind, name, about=f"{kind} {name}", dry_run=dry_run)
    return plan_result(plan)


def get_object(client: AdminClient, kind: str, name: str) -> dict[str, t.Any] | None:
    """Return the object's spec and state, None when there is none of that name."""
    try:
        found: dict[str, t.Any] = client.get("objects", kind, name, about=f"{kind} {name}")
    except AgentRefused as error:
        if error.status == 404:
            return None
        raise
    return found


def plan_result(plan: t.Mapping[str, t.Any]) -> Result:
    """Return ``changed`` and a ``diff`` entry for each step of an agent's plan."""
    steps = plan.get("steps", [])
    return {"changed": bool(plan["changed"]), "diff": [_difference(step) for step in steps]}


def foreseen_object(module: AnsibleModule, kind: str, spec: ArgumentSpec) -> Result:
    """Return what a first run on a node that doesn't exist yet would report."""
    if module.params["state"] == "absent":
        return {"changed": False, "diff": []}
    wanted = specification_from(module.params, spec)
    return {**foreseen_plan({kind: [wanted]}), "object": {"spec": wanted, "state": {}}}


def foreseen_plan(wanted: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]) -> Result:
    """Return changed and diff of a plan that creates every object in ``wanted`` (by kind)."""
    steps = [
        {"action": "create", "kind": kind, "name": one["name"], "before": None, "after": one}
        for kind, objects in wanted.items()
        for one in objects
    ]
    return plan_result({"changed": bool(steps), "steps": steps})


def _difference(step: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    header = f"{step['kind']}/{step['name']}"
    return {
        "before_header": header,
        "after_header": f"{header} ({step['action']})",
        "before": shown(step.get("before")),
        "after": shown(step.get("after")),
    }


def shown(spec: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    """Return a specification as anyone may see it."""
    return {
        field: "(hidden)" if field in _SECRET_FIELDS and value is not None else value
        for field, value in (spec or {}).items()
    }
