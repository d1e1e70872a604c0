"""What keeps a proxy from reading on with a request that it kept: each read is served once.

What changes state is remembered in the store, with the change. Reads are many and change nothing,
so they are remembered here, as long as they are valid; and those that were signed before this node
started, which it can't remember, aren't served. Either way the origin signs a new one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from node_agent.errors import PolicyDenied, Unavailable
from node_agent.peers.envelope import CLOCK_SKEW_SECONDS

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity
    from node_agent.peers.envelope import VerifiedRequest

__all__ = ["ReadNotFresh", "ServedReads"]

# About 130 octets each. One origin alone may have 3,000 reads a second remembered, with what
# lifetime and clock skew come to.
_MOST_REMEMBERED: Final = 1_000_000
_LARGEST_SHARE: Final = 4
# What expires within the same so many seconds is forgotten together.
_SLOT_SECONDS: Final = 16


class ReadNotFresh(PolicyDenied):
    """A read that was served before, or may have been; signed anew it will be served."""

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(reason, rule="envelope")
        self.retry_after_seconds = retry_after_seconds


class ServedReads:
    """Remembers by origin, and within that by when it ends, which is part of what was signed."""

    def __init__(self, clock: Clock, *, most: int = _MOST_REMEMBERED) -> None:
        self._clock = clock
        self._most = most
        self._started_at = int(clock.now())
        self._slots: dict[NodeIdentity, dict[int, set[bytes]]] = {}
        self._counts: defaultdict[NodeIdentity, int] = defaultdict(int)
        self._swept_at = self._slot(clock.now())

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(self, request: VerifiedRequest) -> None:
        """Remember ``request``. Raises ReadNotFresh; Unavailable when its origin has too many."""
        body, origin = request.body, request.origin.node
        if body.issued_at < self._started_at:
            raise ReadNotFresh("signed before this node started", retry_after_seconds=1)
        slots = self._slots.setdefault(origin, {})
        served = slots.setdefault(self._slot(body.expires_at), set())
        if request.body_digest in served:
            raise ReadNotFresh("it was served before: replayed", retry_after_seconds=0)
        self._sweep()
        if self._counts[origin] >= self._most // max(_LARGEST_SHARE, len(self._slots)):
            raise Unavailable("too many reads of one origin", retry_after_seconds=10)
        served.add(request.body_digest)
        self._counts[origin] += 1

    def _sweep(self) -> None:
        """Forget what has expired, when a slot has."""
        oldest = self._slot(self._clock.now() - CLOCK_SKEW_SECONDS)
        if oldest == self._swept_at:
            return
        self._swept_at = oldest
        for origin in list(self._slots):
            slots = self._slots[origin]
            for slot in [slot for slot in slots if slot < oldest]:
                self._counts[origin] -= len(slots.pop(slot))
            if not slots:
                del self._slots[origin]
                del self._counts[origin]

    @staticmethod
    def _slot(seconds: float) -> int:
        return int(seconds) // _SLOT_SECONDS
