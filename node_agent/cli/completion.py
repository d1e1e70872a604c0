"""``peersys completion``: tab completion made from the parser itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus

if TYPE_CHECKING:
    import argparse

    from node_agent.cli.session import Session

__all__ = ["show"]


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Print the completion script of a shell."""
    import shtab

    from node_agent.cli.program import build_parser

    session.write(shtab.complete(build_parser(), shell=namespace.shell))
    return ExitStatus.OK
