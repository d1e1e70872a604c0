"""``peersys peer isolate``: a node was taken over. All that this node can do about it, in one run.

One role that denies everything takes the rights away, whatever other roles grant, by name or by
pin: a deny wins. It is an object of its own, so a later run of a playbook that writes the usual
roles doesn't give them back; who gives the node back deletes it.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from node_agent.cli.failures import AdminRefused, ExitStatus, UsageError
from node_agent.cli.moments import moment_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rich.console import RenderableType

    from node_agent.cli.admin_client import AdminClient, Json
    from node_agent.cli.session import Session

__all__ = ["ROLE_PREFIX", "isolate"]

# Ansible's module for whole nodes leaves roles alone that are called so.
ROLE_PREFIX = "isolated-"

# The agent answers with at most so many entries at a time.
_PAGE = 10_000
# Nobody reads a longer table; ``--json`` has all of it.
_MOST_SHOWN = 1000
_CLOSED_WITHIN_SECONDS = 1.0
# The longest object name, less what comes before the node's.
_MOST_CHARACTERS = 63 - len(ROLE_PREFIX)
_DIGEST_CHARACTERS = 12
_NOT_FOUND = 404


def isolate(namespace: argparse.Namespace, session: Session) -> int:
    """Take a node's rights, links, publishers and authenticator away; say what it asked for."""
    since = moment_of(namespace.since)
    admin = session.admin
    own = str(admin.get("health")["node"])
    identity = _identity(namespace.name, own)
    if identity == own:
        raise UsageError(
            f"{identity} is this node", remedy="run it on the nodes that are linked with it"
        )
    steps = _plan(admin, identity, own)
    changed, began = False, time.monotonic()
    if not namespace.dry_run:
        changed = _carry_out(admin, identity, steps, namespace.reason)
    is_closed = not namespace.dry_run and _is_closed(admin, identity)
    seconds = round(time.monotonic() - began, 3) if is_closed else None
    asked = list(_asked_since(admin, identity, since))
    document = {
        "identity": identity,
        "dry_run": namespace.dry_run,
        "changed": changed,
        **steps,
        "links_closed": is_closed,
        "closed_after_seconds": seconds,
        "asked": asked,
    }
    session.show(document, lambda: _report(document))
    return ExitStatus.OK if is_closed or namespace.dry_run else ExitStatus.CHECK_FAILED


def _asked_since(admin: AdminClient, identity: str, since: float) -> Iterator[Json]:
    """Yield every entry, oldest first: a flood is the first thing that a taken-over node tries."""
    after = 0
    while True:
        page = admin.get("audit", after=after, peer=identity, since=str(since), limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]["sequence"]


def _identity(name: str, own: str) -> str:
    """A bare node name is a node of this node's own trust domain."""
    return name if "/" in name else f"{own.rpartition('/')[0]}/{name}"


def _object_name(identity: str, own: str) -> str:
    """Return a name for objects about a node: its own, and where another node's would be the same
    (of another trust domain, or cut short), with a digest of the identity.
    """
    domain, _, name = identity.rpartition("/")
    if domain == own.rpartition("/")[0] and len(name) <= _MOST_CHARACTERS:
        return name
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: _MOST_CHARACTERS - _DIGEST_CHARACTERS - 1].rstrip('-')}-{digest}"


def _plan(admin: AdminClient, identity: str, own: str) -> dict[str, Json]:
    return {
        "role": f"{ROLE_PREFIX}{_object_name(identity, own)}",
        "connectors": [view["spec"] for view in _about(admin, "peer_connectors", identity)],
        "publishers": [view["spec"]["name"] for view in _about(admin, "publishers", identity)],
        "certificates": list(_authenticators(admin, identity)),
    }


def _about(admin: AdminClient, kind: str, identity: str) -> list[Json]:
    return [view for view in admin.get("objects", kind) if view["spec"]["peer"] == identity]


def _authenticators(admin: AdminClient, identity: str) -> Iterator[Json]:
    """Yield what this node's Management CAs certified for the node, unless it is revoked."""
    for view in admin.get("objects", "certification_authorities"):
        spec = view["spec"]
        if spec["kind"] != "management":
            continue
        found = admin.get("certificates", authority=spec["name"], name=identity, limit=1000)
        for item in found:
            if identity in item["names"] and item["status"] != "revoked":
                yield {"authority": spec["name"], "serial": item["serial"]}


def _carry_out(admin: AdminClient, identity: str, steps: dict[str, Json], reason: str) -> bool:
    """Return whether anything changed.

    The role comes first: it ends the links, whatever becomes of the rest.
    """
    denied = {"members": [identity], "rules": [{"resource": "/**", "effect": "deny"}]}
    answers = [admin.put("objects", "peer_roles", steps["role"], body=denied)]
    for certificate in steps["certificates"]:
        path = (certificate["authority"], certificate["serial"], "revocation")
        answers.append(admin.post("certificates", *path, body={"reason": reason}))
    for spec in steps["connectors"]:
        body = {**spec, "enabled": False}
        answers.append(admin.put("objects", "peer_connectors", spec["name"], body=body))
    answers += [_removed(admin, name) for name in steps["publishers"]]
    return any(answer["changed"] for answer in answers)


def _removed(admin: AdminClient, publisher: str) -> Json:
    """Remove a publisher. A node on the same store may have been quicker."""
    try:
        return admin.delete("objects", "publishers", publisher)
    except AdminRefused as error:
        if error.status != _NOT_FOUND:
            raise
        return {"changed": False}


def _is_closed(admin: AdminClient, identity: str) -> bool:
    until = time.monotonic() + _CLOSED_WITHIN_SECONDS
    while True:
        if not any(peer["connections"] for peer in admin.get("peers") if peer["peer"] == identity):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.02)


def _report(document: Json) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    is_plan = document["dry_run"]
    serials = [f"{item['authority']} {item['serial']}" for item in document["certificates"]]
    fields = look.fields(
        [
            ("would isolate" if is_plan else "isolated", document["identity"]),
            ("role", f"{document['role']}: everything is denied"),
            ("revoked", ", ".join(serials) or "nothing: no Management CA of it is here"),
            ("disabled", ", ".join(spec["name"] for spec in document["connectors"])),
            ("publisher stopped", ", ".join(document["publishers"])),
            ("links", "" if is_plan else ("closed" if document["links_closed"] else "STILL UP")),
        ]
    )
    return Group(fields, "", _asked(document["asked"]))


def _asked(entries: list[Json]) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    if not entries:
        return "It asked for nothing in that time."
    shown = entries[-_MOST_SHOWN:]
    rows = [
        [
            look.moment(entry["at"]),
            look.state("allowed" if entry["allowed"] else "denied"),
            entry["action"],
            entry["chain"],
            " ".join(entry["resources"]),
            entry["detail"].get("serial"),
        ]
        for entry in shown
    ]
    table = look.table(["time", "verdict", "action", "who", "resources", "serial"], rows)
    older = len(entries) - len(shown)
    return Group(table, f"and {older} more before them: see --json") if older else table
