"""``peersys approval``: which requests wait for people, and who approved what.

To look at only: approving goes through an RA, which knows who somebody is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["show", "show_all"]

_APPROVAL = re.compile(r"[0-9a-f]{64}\Z")


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """List requests, oldest first."""
    selection = {"authority": namespace.authority, "limit": namespace.limit}
    if namespace.ended:
        selection["ended"] = "true"
    found = session.admin.get("approvals", **selection)
    session.show(found, lambda: _table(found))
    return ExitStatus.OK


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show one request with its CSR."""
    approval = namespace.approval.lower()
    if not _APPROVAL.match(approval):
        raise UsageError("APPROVAL has 64 hexadecimal digits: 'peersys approval list' shows them")
    found = session.admin.get("approvals", approval)
    session.show(found, lambda: _page(found))
    return ExitStatus.OK


def _table(found: list[Json]) -> RenderableType:
    from node_agent.cli import look

    if not found:
        return look.message("No request waits for approval.")
    rows = [
        [
            one["approval"],
            one["authority"],
            one["profile"],
            one["requester"],
            ", ".join(one["names"]) or one["subject"],
            f"{_counting(one)}/{one['approvals_needed']}",
            look.state(one["state"]),
            look.until(one["expires_at"]),
        ]
        for one in found
    ]
    columns = ["approval", "CA", "profile", "requester", "names", "approved", "state", "ends"]
    return look.table(columns, rows)


def _page(found: Json) -> RenderableType:
    from rich.console import Group

    from node_agent.cli import look

    pairs = [
        ("approval", found["approval"]),
        ("state", look.state(found["state"])),
        ("CA", found["authority"]),
        ("profile", found["profile"]),
        ("tenant", found["tenant"] or "none"),
        ("requester", found["requester"]),
        ("asked through", " ".join([found["origin"], *found["via"]])),
        ("subject", found["subject"]),
        ("names", ", ".join(found["names"])),
        ("asked", look.moment(found["opened_at"])),
        ("ends", look.until(found["expires_at"])),
        ("approvals", f"{_counting(found)} of {found['approvals_needed']}"),
        *((f"  {one['approver']}", _given(one)) for one in found["approvals"]),
        *((("ended by", found["ended_by"]),) if found["ended_by"] else ()),
        *((("reason", found["reason"]),) if found["reason"] else ()),
    ]
    return Group(look.fields(pairs), str(found.get("csr") or "").rstrip())


def _given(approval: Json) -> str:
    from node_agent.cli import look

    through = " ".join(approval["nodes"])
    counts = "" if approval["counts"] else ", counts no more: a node may not bring it now"
    return f"{look.moment(approval['at'])} through {through}{counts}"


def _counting(found: Json) -> int:
    return sum(bool(one["counts"]) for one in found["approvals"])
