"""Links that were refused, or ended by the peer's own fault, in the audit log.

A peer can bring this about as often as it can dial, so the same from the same peer is written once
a minute, with the number of times.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError
from node_agent.peers.case import AuditTrail
from node_agent.policy import describe_chain
from node_agent.store.records import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity, PeerIdentity

__all__ = ["BreachLog"]

log = structlog.get_logger(__name__)

_QUIET_SECONDS: Final = 60.0
# Reasons hold a few numbers of the peer's choosing; what is remembered of them is bounded.
_MOST_REMEMBERED: Final = 1000


class BreachLog:
    """Write them with ``audit``; ``close`` waits for the last. ``home`` is our trust domain."""

    def __init__(
        self, audit: Callable[[AuditRecord], Awaitable[None]], clock: Clock, *, home: str = ""
    ) -> None:
        self._trail = AuditTrail(audit)
        self._home = home
        self._clock = clock
        self._noted: dict[tuple[NodeIdentity, str], tuple[float, int]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, peer: PeerIdentity, reason: str) -> None:
        """Write an entry soon, unless the same was written just now."""
        now = self._clock.monotonic()
        key = (peer.node, reason)
        since, times = self._noted.get(key, (now - _QUIET_SECONDS, 0))
        if now - since < _QUIET_SECONDS:
            self._noted[key] = (since, times + 1)
            return
        if len(self._noted) >= _MOST_REMEMBERED:
            self._noted.clear()
        self._noted[key] = (now, 0)
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
