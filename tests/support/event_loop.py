"""Run a coroutine in a fresh event loop with a deadline: a hang is a failure with a trace.

asyncio's debug mode writes down the whole stack for each task, future and callback, which takes a
third of the time of many tests; ``PYTHONASYNCIODEBUG=1`` turns it on. What it finds that nothing
else does, a loop that is called from a foreign thread, is found here all the same.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

ResultT = TypeVar("ResultT")


class _OneThreadLoop(asyncio.SelectorEventLoop):
    """Raises RuntimeError when another thread than its own schedules something."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = threading.get_ident()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self._check_owner()
        return super().call_soon(callback, *arguments, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *arguments: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_owner()
        return super().call_at(when, callback, *arguments, context=context)

    def _check_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError("a thread that isn't the event loop's has called it")


def run(coroutine: Coroutine[Any, Any, ResultT], *, timeout_seconds: float = 20) -> ResultT:
    """Return the coroutine's result; raises TimeoutError after ``timeout_seconds``."""

    async def bounded() -> ResultT:
        async with asyncio.timeout(timeout_seconds):
            return await coroutine

    # A test that set a policy means that policy's loop.
    usual = isinstance(asyncio.get_event_loop_policy(), asyncio.DefaultEventLoopPolicy)
    with asyncio.Runner(loop_factory=_OneThreadLoop if usual else None) as runner:
        return runner.run(bounded())
