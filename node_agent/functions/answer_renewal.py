"""Kept OCSP answers are made anew before they end, beside the requests that are answered by them.

The old answer is given until the new one is there, so that neither a flood of requests that must be
signed nor a signer that hangs takes an answer away that is valid. An answer that nobody asks for is
not renewed: it costs nothing until it is asked for again.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.clock import Clock
    from node_agent.functions.response_cache import KeptResponse

__all__ = ["AnswerRenewal"]

log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 64
"""Beyond it an answer waits for its next request: each has a tenth of its life for it."""

_DEADLINE_SECONDS: Final = 10.0
"""As long as a request may take: what hangs makes room for others."""

_PAUSE_SECONDS: Final = 1.0
"""So long after a failure an answer isn't tried again, however often it is asked for."""


class AnswerRenewal:
    """``make`` makes the answer to a request anew and keeps it. You must ``close`` it."""

    def __init__(self, make: Callable[[bytes], Awaitable[object]], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, request: bytes, kept: KeptResponse) -> None:
        """Make the answer ``kept`` anew, unless that is being done, or failed just now."""
        if self._clock.monotonic() < kept.renew_at or len(self._tasks) >= _MOST_AT_ONCE:
            return
        kept.renew_at = math.inf
        task = asyncio.get_running_loop().create_task(self._renew(request, kept))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _renew(self, request: bytes, kept: KeptResponse) -> None:
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._make(request)
        except (NodeAgentError, TimeoutError) as error:
            log.warning("no OCSP answer made", reason=str(error) or "it took too long")
        except Exception as error:  # the root of this task: the answer stays until it ends
            log.error("OCSP answer not renewed", exc_info=error)
        finally:
            kept.renew_at = self._clock.monotonic() + _PAUSE_SECONDS
