"""How far behind a peer is, is known while it is away, and right after a start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.event_loop import run
from tests.unit.functions.test_publishing import Publishing, publishing

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.own_authority import OwnAuthority


async def is_kept(it: Publishing) -> None:
    """Wait until the CA's store knows that the peer has all."""
    (lane,) = it.publisher._lanes
    last = await it.own.store.last_position()
    while await it.own.store.publisher_position(lane._key()) < last:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def sleeps(own: OwnAuthority, lanes: int = 1) -> None:
    """Wait until so many lanes of a publisher pause after a failure."""
    while own.clock.sleepers < lanes:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_lag_grows_while_a_peer_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("certificate", "status")) as it:
            await it.issue(1)
            await it.caught_up()
            await is_kept(it)
            it.calls.cut = 1_000_000
            await it.republish(content=("certificate", "status"), clock=it.own.clock)
            await sleeps(it.own)
            assert it.publisher.snapshot().lag_entries == 0
            await it.issue(2)
            it.own.clock.advance(3600)
            await sleeps(it.own)
            found = it.publisher.snapshot()
            assert (found.lag_entries, found.lag_seconds) == (1, 3600)

    run(scenario())


def test_lag_grows_while_a_peer_is_asked_and_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.functions.publishing.BEAT_SECONDS", 0.01)

    async def scenario() -> None:
        async with publishing(tmp_path, content=("certificate", "status")) as it:
            await it.issue(1)
            await it.caught_up()
            await is_kept(it)
            it.calls.hang = True
            await it.republish(content=("certificate", "status"), clock=it.own.clock)
            await it.issue(2)
            async with asyncio.timeout(10):
                while it.publisher.snapshot().lag_entries != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

    run(scenario())


def test_lag_is_known_after_a_restart_though_the_peer_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("certificate", "status")) as it:
            await it.issue(1)
            await it.caught_up()
            await is_kept(it)
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)
            await it.issue(2)
            await it.issue(3)
            it.own.clock.advance(3600)
            it.calls.cut = 1_000_000
            await it.republish(content=("certificate", "status"), clock=it.own.clock)
            await sleeps(it.own)
            found = it.publisher.snapshot()
            assert (found.state, found.lag_entries, found.lag_seconds) == ("waiting", 2, 3600)

    run(scenario())


def test_what_is_for_others_is_no_lag_of_a_peer_that_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, authorities=("root",), content=("status",)) as it:
            await it.caught_up()
            await is_kept(it)
            it.calls.cut = 1_000_000
            spec: dict[str, Any] = {"authorities": ("root",), "content": ("status",)}
            await it.republish(**spec, clock=it.own.clock)
            await sleeps(it.own)
            await it.issue(1)
            it.own.clock.advance(3600)
            await sleeps(it.own)
            found = it.publisher.snapshot()
            assert (found.lag_entries, found.lag_seconds) == (0, 0)

    run(scenario())
