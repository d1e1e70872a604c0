"""The process around one node: signals, logging, exit status."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING, Final

import uvloop

from node_agent.errors import NodeAgentError
from node_agent.log import configure_logging
from node_agent.service.node import Node

if TYPE_CHECKING:
    from node_agent.config import NodeSettings

__all__ = ["run", "serve"]

_COLLECT_AFTER: Final = (20_000, 20, 20)
"""Objects that are made before garbage is looked for, and how often older ones are. By default it
is 700: a single enrolment makes more, and nearly all garbage of ours is freed without a search.
"""


async def serve(settings: NodeSettings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    try:
        await node.open()
        _leave_out_of_collections()
        await node.serve(stop)
    finally:
        await node.close()


def _leave_out_of_collections() -> None:
    """Have the garbage collector pass over what was imported and loaded: it stays to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def run(settings: NodeSettings) -> int:
    """Run a node in this process; return its exit status.

    Raises ConfigError, TokenError or StoreError when it can't start.
    """
    configure_logging(settings.log_level, node=settings.identity.name)
    try:
        uvloop.run(serve(settings))
    except* NodeAgentError as group:
        raise group.exceptions[0] from None
    return 0
