"""A place on the status port: who lives there, and what is done between two lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from node_agent.errors import ConfigError
from node_agent.status_workers import slot as slot_module
from node_agent.status_workers.slot import WorkerSlot
from tests.support.event_loop import run

if TYPE_CHECKING:
    import pytest


class Sockets:
    """Counts what is bound and closed."""

    def __init__(self) -> None:
        self.open = 0
        self.bound = 0
        self.fails = False

    def bind(self) -> list[Any]:
        """Return one socket that isn't one."""
        if self.fails:
            raise ConfigError("can't be listened on")
        self.bound += 1
        self.open += 1
        return [self]

    def fileno(self) -> int:
        """Return some number."""
        return 9

    def close(self) -> None:
        """Count it."""
        self.open -= 1


class Worker:
    """Lives as long as it is told to."""

    pid = 1
    last = None

    def __init__(self, lived_seconds: float) -> None:
        self.lived_seconds = lived_seconds
        self.ends = asyncio.Event()

    async def start(self, begin: object, listeners: object) -> None:
        """Start."""

    async def started(self) -> None:
        """Be there at once."""

    async def run(self) -> int:
        """Live."""
        await self.ends.wait()
        return -9

    async def stop(self) -> None:
        """End."""
        self.ends.set()


class Lives:
    """A slot whose workers live for so many seconds each, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
        self.sockets = Sockets()
        self.pauses: list[tuple[float, int]] = []
        self.workers: list[Worker] = []
        self._seconds = list(seconds)
        monkeypatch.setattr(slot_module.asyncio, "sleep", self._sleep)
        make: Any = self._make
        self.slot = WorkerSlot(
            1,
            bind=self.sockets.bind,
            make=make,
            begin=lambda number, listeners: None,  # type: ignore[arg-type,return-value]
            on_start=lambda worker: None,
            on_end=lambda worker: None,
        )

    def _make(self) -> Worker:
        worker = Worker(self._seconds.pop(0) if self._seconds else 0.0)
        if self._seconds:
            worker.ends.set()
        self.workers.append(worker)
        return worker

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append((seconds, self.sockets.open))

    async def live(self) -> None:
        """Run until the last worker is there, then stop."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.slot.run())
            while self._seconds:
                await asyncio.wait([task], timeout=0.001)
            await self.slot.stop()


def test_a_long_life_is_followed_at_once_on_the_same_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        lives = Lives(monkeypatch, 60.0, 60.0, 60.0)
        await lives.live()
        assert lives.pauses == []
        assert lives.sockets.bound == 1
        assert lives.sockets.open == 0
        assert lives.slot.restarts == 2

    run(scenario())


def test_short_lives_are_followed_later_and_later_with_the_port_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        lives = Lives(monkeypatch, *[1.0] * 9)
        await lives.live()
        seconds = [pause for pause, _ in lives.pauses]
        assert seconds[:3] == [0.25, 0.5, 1.0]
        assert max(seconds) == 10.0
        assert {open_then for _, open_then in lives.pauses} == {0}

    run(scenario())


def test_a_long_life_makes_short_ones_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lives = Lives(monkeypatch, 1.0, 1.0, 60.0, 1.0, 60.0)
        await lives.live()
        assert [pause for pause, _ in lives.pauses] == [0.25, 0.5, 0.25]

    run(scenario())


def test_a_port_that_can_not_be_bound_again_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        lives = Lives(monkeypatch, 1.0, 60.0)
        tries = iter([True, True, False])
        bind = lives.sockets.bind

        def fail_twice() -> list[Any]:
            lives.sockets.fails = next(tries, False)
            return bind()

        lives.slot._bind = fail_twice
        await lives.live()
        assert [pause for pause, _ in lives.pauses] == [0.25, 0.5, 1.0]
        assert lives.sockets.open == 0

    run(scenario())
