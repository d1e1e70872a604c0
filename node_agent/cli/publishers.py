"""``peersys publisher``: what goes to which VA, and whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli import look
from node_agent.cli.admin_client import COMPARING_SECONDS
from node_agent.cli.failures import ExitStatus

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["verify"]


def verify(namespace: argparse.Namespace, session: Session) -> int:
    """Compare a publisher's peer with this node."""
    order = {"repair": namespace.repair, "recompute": namespace.recompute}
    answer = session.admin.post(
        "publishers", namespace.name, "verification", body=order, timeout_seconds=COMPARING_SECONDS
    )
    session.show(answer, lambda: _render(answer))
    left = sum(_differences(found) - found["repaired"] for found in answer["authorities"])
    return ExitStatus.CHECK_FAILED if left else ExitStatus.OK


def _differences(found: Json) -> int:
    return int(found["missing"] + found["changed"] + found["surplus"] + found["crls"])


def _render(answer: Json) -> RenderableType:
    columns = ["CA", "#certificates", "#missing", "#changed", "#surplus", "#CRLs lost", "#repaired"]
    names = ("authority", "entries", "missing", "changed", "surplus", "crls", "repaired")
    rows = [[found[name] for name in names] for found in answer["authorities"]]
    return look.table(columns, rows)
