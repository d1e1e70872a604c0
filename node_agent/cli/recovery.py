"""``peersys recover``: a store that was restored from an old copy, and what the field knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from node_agent.cli import look
from node_agent.cli.admin_client import COMPARING_SECONDS
from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["recover"]


def recover(namespace: argparse.Namespace, session: Session) -> int:
    """Bring the node's store up to what its peers have seen."""
    order = {
        "dry_run": namespace.dry_run,
        "position": namespace.position,
        "crl_numbers": dict(_floor(text) for text in namespace.crl_numbers),
    }
    answer = session.admin.post("recovery", body=order, timeout_seconds=COMPARING_SECONDS)
    session.show(answer, lambda: _render(answer))
    return ExitStatus.OK


def _floor(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise UsageError(f"{text!r} is no CRL number of a CA", remedy="write CA=NUMBER")
    return name, int(number)


def _render(answer: Json) -> RenderableType:
    if not answer["authorities"] and answer["position"] == answer["position_before"]:
        return "Nothing to recover: no linked VA knows more than this store."
    columns = ["CA", "#certificates read back", "#statuses read back", "#CRLs above", "not read"]
    names = ("authority", "certificates", "statuses", "crl_number")
    rows = [
        [*(found[name] for name in names), "\n".join(found["listed"])]
        for found in answer["authorities"]
    ]
    words = "would go on" if answer["dry_run"] else "goes on"
    return Group(look.table(columns, rows), f"The change log {words} above {answer['position']}.")
