"""Links that were refused, or ended by the peer's own fault, in the audit log.

A peer can bring this about as often as it can dial, so the same from the same peer is written once
a minute, with the number of times. The same is what has the same code: the words behind it hold
numbers of the peer's choosing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import NodeAgentError
from node_agent.peers.case import AuditTrail
from node_agent.peers.repeats import Repeats
from node_agent.policy import describe_chain
from node_agent.store.records import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.clock import Clock
    from node_agent.identity import PeerIdentity

__all__ = ["BreachLog"]

log = structlog.get_logger(__name__)


class BreachLog:
    """Write them with ``audit``; ``close`` waits for the last. ``home`` is our trust domain."""

    def __init__(
        self, audit: Callable[[AuditRecord], Awaitable[None]], clock: Clock, *, home: str = ""
    ) -> None:
        self._trail = AuditTrail(audit)
        self._home = home
        self._clock = clock
        self._repeats = Repeats(clock)
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, peer: PeerIdentity, reason: str) -> None:
        """Write an entry soon, unless the same was written just now.

        ``reason`` begins with a code of ours and a colon.
        """
        times = self._repeats.unwritten(peer.node, reason.partition(":")[0])
        if times is None:
            return
        detail = {"origin": peer.node.uri, "peer": peer.node.uri}
        if times:
            detail["unwritten_before"] = str(times)
        record = AuditRecord(
            at=self._clock.now(),
            action="peer.link",
            allowed=False,
            chain=describe_chain((peer,), home=self._home),
            resources=("/peer/incoming",),
            reason=reason,
            detail=detail,
        )
        task = asyncio.create_task(self._write(record))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Wait until all of them are written."""
        await asyncio.gather(*self._writing)

    async def _write(self, record: AuditRecord) -> None:
        try:
            await self._trail.add(record)
        except NodeAgentError as error:
            log.error("link not audited", chain=record.chain, reason=str(error))
