"""A change between two looks is never lost."""

from __future__ import annotations

import asyncio

from node_agent.functions.signal import ChangeSignal
from tests.support.event_loop import run


def test_a_change_before_the_wait_is_seen_at_once() -> None:
    async def scenario() -> bool:
        signal = ChangeSignal()
        seen = signal.count
        signal.announce()
        return await signal.wait(seen, 10)

    assert run(scenario())


def test_every_waiter_wakes() -> None:
    async def scenario() -> list[bool]:
        signal = ChangeSignal()
        waits = [asyncio.create_task(signal.wait(0, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        signal.announce()
        return await asyncio.gather(*waits)

    assert run(scenario()) == [True, True, True]


def test_without_a_change_the_wait_ends_in_time() -> None:
    async def scenario() -> bool:
        return await ChangeSignal().wait(0, 0.01)

    assert not run(scenario())


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async def scenario() -> int:
        signal = ChangeSignal()
        task = asyncio.create_task(signal.wait(0, 10))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return len(signal._waiters)

    assert run(scenario()) == 0
