"""What a command is: the declaration from which parser, help, completion and manual are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["Command", "Group"]


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


# Named tuples, because importing dataclasses costs every run of the command some 10 ms.
class Command(NamedTuple):
    """One command. ``handler`` is ``module:function``, imported only when the command runs.

    A handler takes (namespace, Session) and returns an exit status. ``examples`` are shown in
    the help as they are, one shell line each. ``local`` commands need no agent.
    """

    name: str
    summary: str
    handler: str
    description: str = ""
    examples: tuple[str, ...] = ()
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    local: bool = False


class Group(NamedTuple):
    """Commands about one noun: ``peersys peer list``, ``peersys peer ping``."""

    name: str
    summary: str
    commands: tuple[Command, ...]
