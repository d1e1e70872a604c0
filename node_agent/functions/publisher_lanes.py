"""One publisher in two lanes, so that a revocation never waits behind a long CRL.

A long CRL takes minutes on a slow link, and its place in the change log is before whatever happened
meanwhile. Letting later entries pass it would end what a position means: that everything up to it
is applied. If the CA or the VA then died, nobody would know what was left out.

So there are two positions instead. Certificates and statuses go down one lane, CRLs down the other;
each is a publisher of its own, with a position of its own at the peer, which files a position
under what is published (``publishing.source_name``). Within a lane nothing changes: in order,
complete up to the position, resumed where the peer says, however often it is cut. Between the lanes
no order is needed. A CRL states what its CA signed, whatever the peer's rows say, and its number
decides which one is newer; an OCSP answer is made from rows alone. The entry that makes a CA known
goes down both, since either may be first.

What a peer knows of a CA is as fresh as its statuses: the lane of CRLs says nothing about it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.functions.publishing import Publisher, PublisherSnapshot
    from node_agent.objects import PublisherSpec

__all__ = ["PublisherLanes"]

_LISTS = "crl"


class PublisherLanes:
    """A publisher as everybody but the peer sees it. ``make`` makes one of a part of the content.

    Run with ``run()`` in a task of its own; cancel the task to stop.
    """

    def __init__(self, spec: PublisherSpec, make: Callable[[PublisherSpec], Publisher]) -> None:
        self.spec = spec
        self._lanes = tuple(
            make(msgspec.structs.replace(spec, content=content)) for content in _parts(spec)
        )
        self.peer = self._lanes[0].peer
        self._verified_at: int | None = None
        self._differences = 0
        self._not_compared: str | None = None

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run(), name=f"publisher-{self.spec.name}-lane")

    def snapshot(self) -> PublisherSnapshot:
        """Return how far the lane is that is farther behind; the state is that of the first."""
        lanes = [lane.snapshot() for lane in self._lanes]
        last = min(lanes, key=lambda lane: lane.position)
        errors = (lane.last_error for lane in lanes if lane.last_error is not None)
        return msgspec.structs.replace(
            last,
            state=lanes[0].state,
            lag_entries=max(lane.lag_entries for lane in lanes),
            lag_seconds=max(lane.lag_seconds for lane in lanes),
            last_error=next(errors, self._not_compared),
            verified_at=self._verified_at,
            differences=self._differences,
        )

    def verified(self, at: int, differences: int) -> None:
        """Note what a comparison left different."""
        self._verified_at, self._differences = at, differences
        self._not_compared = None

    def not_compared(self, reason: str) -> None:
        """Note that the peer's answers are no use, until the next comparison."""
        self._not_compared = f"not compared: {reason}"

    async def is_peer_ahead(self) -> bool:
        """Tell whether the peer has applied more than our log holds: ours is an old copy."""
        return await self._lanes[0].is_peer_ahead()

    @property
    def ahead(self) -> int:
        """Up to where the peer knows our log while that is more than we do; else 0."""
        return max(lane.ahead for lane in self._lanes)

    def recovered(self) -> None:
        """Note that our log goes on above all that the peer has applied."""
        for lane in self._lanes:
            lane.recovered()


def _parts(spec: PublisherSpec) -> Iterator[tuple[str, ...]]:
    rows = tuple(kind for kind in spec.content if kind != _LISTS)
    if rows or not spec.content:
        yield rows
    if _LISTS in spec.content:
        yield (_LISTS,)
