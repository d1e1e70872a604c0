"""Wake whoever waits for "something changed" without missing a change or sleeping a fixed time."""

from __future__ import annotations

import asyncio

__all__ = ["ChangeSignal"]


class ChangeSignal:
    """A counter that can be waited on: a change between two looks is never lost."""

    def __init__(self) -> None:
        self._count = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def count(self) -> int:
        """How many changes were announced so far; hand it to ``wait``."""
        return self._count

    def announce(self) -> None:
        """Wake everyone who waits."""
        self._count += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout_seconds: float) -> bool:
        """Return once the count is above ``seen`` (True) or the time is up (False)."""
        if self._count > seen:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True
