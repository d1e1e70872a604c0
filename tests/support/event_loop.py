"""Run a coroutine in a fresh event loop with a deadline: a hang is a failure with a trace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

ResultT = TypeVar("ResultT")


def run(coroutine: Coroutine[Any, Any, ResultT], *, timeout_seconds: float = 20) -> ResultT:
    """Return the coroutine's result; raises TimeoutError after ``timeout_seconds``."""

    async def bounded() -> ResultT:
        async with asyncio.timeout(timeout_seconds):
            return await coroutine

    return asyncio.run(bounded(), debug=True)
