"""Whose turn it is: taken when nobody has it, or when who has it stops; never while it works."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.functions.publishing_turn import OnlyTurn, SharedTurn, TurnLost
from node_agent.store import Ownership, Store, open_store
from node_agent.store.records import PublisherMark
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.postgres import postgres_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KEY = "va1 0123456789abcdef"


def store_of(url: str, node: str) -> Store:
    return open_store(url, owner=Ownership(node=node))


def always(answer: bool) -> Callable[[int], Awaitable[bool]]:
    async def is_behind(position: int) -> bool:
        return answer

    return is_behind


async def until_asleep(clock: ManualClock, task: asyncio.Task[None]) -> None:
    while not clock.sleepers and not task.done():  # noqa: ASYNC110  # a clock has no event
        await asyncio.sleep(0.001)


async def pass_seconds(clock: ManualClock, task: asyncio.Task[None], seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        await until_asleep(clock, task)
        clock.advance(0.5)
    await until_asleep(clock, task)


def test_a_store_of_ones_own_leaves_no_question(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            turn = OnlyTurn(store)
            await turn.take(KEY, always(True))
            await turn.keep(KEY, 4)
            turn.failed()
            assert await store.publisher_position(KEY) == 4

    run(scenario())


def test_the_first_takes_it_at_once_and_the_second_when_the_first_stops() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        with postgres_url() as url:
            async with store_of(url, "ca1") as one, store_of(url, "ca2") as two:
                first = SharedTurn(one, node="ca1", clock=clock)
                second = SharedTurn(two, node="ca2", clock=clock)
                await first.take(KEY, always(True))
                waiting = asyncio.create_task(second.take(KEY, always(True)))
                for _ in range(5):
                    await pass_seconds(clock, waiting, 2)
                    await first.keep(KEY, 1)
                assert not waiting.done()
                await pass_seconds(clock, waiting, 5)
                await waiting
                assert (await one.publisher_mark(KEY)).holder == "ca2"
                with pytest.raises(TurnLost):
                    await first.keep(KEY, 2)

    run(scenario())


def test_nothing_to_publish_leaves_the_turn_where_it_is() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        with postgres_url() as url:
            async with store_of(url, "ca1") as one, store_of(url, "ca2") as two:
                await SharedTurn(one, node="ca1", clock=clock).take(KEY, always(True))
                second = SharedTurn(two, node="ca2", clock=clock)
                waiting = asyncio.create_task(second.take(KEY, always(False)))
                await pass_seconds(clock, waiting, 60)
                assert not waiting.done()
                waiting.cancel()
                assert (await one.publisher_mark(KEY)).holder == "ca1"

    run(scenario())


def test_a_node_that_starts_again_goes_on_with_its_turn() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        with postgres_url() as url:
            async with store_of(url, "ca1") as store:
                await SharedTurn(store, node="ca1", clock=clock).take(KEY, always(True))
                await SharedTurn(store, node="ca1", clock=clock).take(KEY, always(False))
                assert (await store.publisher_mark(KEY)) == PublisherMark(holder="ca1", beat=1)

    run(scenario())


def test_a_node_that_failed_waits_longer_for_its_next_turn() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        with postgres_url() as url:
            async with store_of(url, "ca1") as one, store_of(url, "ca2") as two:
                await SharedTurn(one, node="ca1", clock=clock).take(KEY, always(True))
                second = SharedTurn(two, node="ca2", clock=clock)
                for _ in range(10):
                    second.failed()
                waiting = asyncio.create_task(second.take(KEY, always(True)))
                await pass_seconds(clock, waiting, 20)
                assert not waiting.done()
                await pass_seconds(clock, waiting, 15)
                await waiting

    run(scenario())
