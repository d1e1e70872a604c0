"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools

__all__ = ["ManualClock"]


class ManualClock:
    """Implements ``node_agent.clock.Clock``; time stands still until ``advance`` or ``step``.

    ``advance`` moves both clocks and wakes the sleepers whose time has come, in order. ``step``
    moves only the wall clock, as an operator or NTP would.
    """

    def __init__(self, now: float = 1_750_000_000.0, *, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Return the simulated seconds since the Unix epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the simulated monotonic seconds."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until ``advance`` has moved the clock by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), waiter))
        await waiter

    @property
    def sleepers(self) -> int:
        """How many coroutines wait on this clock."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move time forward and wake whoever is due."""
        if seconds < 0:
            raise ValueError("monotonic time never goes backward; use step() for the wall clock")
        self._now += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)

    def step(self, seconds: float) -> None:
        """Change the wall clock alone, forward or backward."""
        self._now += seconds
