"""The one task of a pool: plan, perform, wait for the next event or alarm, until all has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from node_agent.clock import Clock

__all__ = ["Runner"]

log = structlog.get_logger(__name__)

# After a defect in planning itself: go on, but don't spin.
_MISHAP_SECONDS: Final = 1.0


class Runner:
    """Call ``replan`` after each ``wake`` and at the time it returned (monotonic, None: never).

    ``is_finished`` is asked before each round. Tasks that are spawned belong to the runner, which
    ends after all of them.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        replan: Callable[[], float | None],
        is_finished: Callable[[], bool],
    ) -> None:
        self._name = name
        self._clock = clock
        self._replan = replan
        self._is_finished = is_finished
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    @property
    def group(self) -> asyncio.TaskGroup:
        """The group that owns what the pool has started."""
        assert self._group is not None, "the pool has not been started"
        return self._group

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Plan again soon."""
        self._changed.set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` beside the planning."""
        self.group.create_task(work)

    async def wait_finished(self) -> None:
        """Wait for the end of everything; cancelling this cancels only the waiting."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            while not self._is_finished():
                self._changed.clear()
                try:
                    wake_at = self._replan()
                except Exception:
                    log.exception("pool can't plan", task=self._name)
                    wake_at = self._clock.monotonic() + _MISHAP_SECONDS
                await self._wait_until(wake_at)

    async def _wait_until(self, at: float | None) -> None:
        if at is None:
            await self._changed.wait()
            return
        sleep = self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        alarm = asyncio.ensure_future(sleep)
        alarm.add_done_callback(self._ring)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()

    def _ring(self, alarm: asyncio.Future[None]) -> None:
        # An alarm that was cancelled because something changed must not say so once more: the
        # next round would cancel its own alarm for it, and so on without an end.
        if not alarm.cancelled():
            self._changed.set()
