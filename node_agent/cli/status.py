"""``peersys status``: the health of one node on one page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from node_agent.cli.failures import AgentUnreachable, ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["show"]

_SHORTEST_WATCH_SECONDS = 0.2


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show the node's status once, or again and again with ``--watch``."""
    if namespace.watch is not None:
        return _watch(session, seconds=namespace.watch)
    answer = session.admin.get("status")
    session.show(answer, lambda: _page(answer))
    return ExitStatus.OK if answer["health"] == "ok" else ExitStatus.CHECK_FAILED


def _page(answer: Json) -> RenderableType:
    from node_agent.cli.status_view import status_page

    return status_page(answer)


def _watch(session: Session, *, seconds: float) -> int:
    if seconds < _SHORTEST_WATCH_SECONDS:
        raise UsageError(
            f"--watch {seconds:g} is too often", remedy=f"use {_SHORTEST_WATCH_SECONDS:g} or more"
        )
    if session.as_json:
        while True:
            session.show(session.admin.get("status"), lambda: "")
            time.sleep(seconds)
    from rich.live import Live

    with Live(console=session.console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(_page_or_failure(session), refresh=True)
            time.sleep(seconds)


def _page_or_failure(session: Session) -> RenderableType:
    """A watched agent may restart: say so and keep watching."""
    from node_agent.cli.look import message

    try:
        return _page(session.admin.get("status"))
    except AgentUnreachable as error:
        return message(str(error))
