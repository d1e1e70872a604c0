"""``peersys peer``: the links to other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.failures import AdminRefused, ExitStatus

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.session import Session

__all__ = ["ping", "show_all"]

_HTTP_UNAVAILABLE = 503


def show_all(namespace: argparse.Namespace, session: Session) -> int:
    """List peers."""
    answer = session.admin.get("peers")

    def render() -> RenderableType:
        from node_agent.cli.status_view import peer_table

        return peer_table(answer) if answer else "No peers: the node has no connector or listener."

    session.show(answer, render)
    return ExitStatus.OK


def ping(namespace: argparse.Namespace, session: Session) -> int:
    """Measure the round trip to one peer over each link."""
    name = namespace.name.rpartition("/")[2]
    try:
        answer = session.admin.post("peers", name, "ping")
    except AdminRefused as error:
        if error.status != _HTTP_UNAVAILABLE:
            raise
        why = str(error)
        session.show({"peer": name, "error": why}, lambda: f"{name}: down: {why}")
        return ExitStatus.CHECK_FAILED
    times = answer["round_trip_ms"]
    session.show(
        answer,
        lambda: "\n".join(
            f"{name}: link {number} of {len(times)}: {value:.2f} ms"
            for number, value in enumerate(times, 1)
        ),
    )
    return ExitStatus.OK if times else ExitStatus.CHECK_FAILED
