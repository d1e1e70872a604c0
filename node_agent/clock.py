"""Time as an argument: the seam through which every layer above ``wire`` learns what time it is."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Final, Protocol

import msgspec

__all__ = ["LAST_SECOND", "Clock", "EpochSeconds", "SystemClock"]

LAST_SECOND: Final = 253_402_300_799
"""9999-12-31 23:59:59 UTC: the last that certificates and CRLs can write (RFC 5280, 4.1.2.5)."""

EpochSeconds = Annotated[int, msgspec.Meta(ge=0, le=LAST_SECOND)]
"""A time that somebody tells us: whole seconds since the Unix epoch."""


class Clock(Protocol):
    """What the agent needs of time. Tests hand in one that they move by hand."""

    def now(self) -> float:
        """Return seconds since the Unix epoch (wall clock; may step)."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backward; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of monotonic time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)
