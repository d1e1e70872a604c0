"""Parts follow each for itself, and what isn't done is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from node_agent.errors import ConfigError
from node_agent.functions.parts import Part, Parts
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.peer_nodes import until


@dataclass
class Followed:
    """A part's work: fails with ``error``, waits for ``gate``."""

    name: str
    error: Exception | None = None
    gate: asyncio.Event | None = None
    faults: dict[str, str] = field(default_factory=dict)
    count: int = 0

    async def __call__(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.count += 1
        if self.error is not None:
            raise self.error

    def part(self, *kinds: str) -> Part:
        return Part(self.name, frozenset(kinds), self, faults=lambda: self.faults)


def test_a_part_that_fails_keeps_no_other_from_following() -> None:
    first, second = Followed("port", ConfigError("is taken")), Followed("links")
    parts = Parts([first.part("a"), second.part("a"), Followed("other").part("b")], ManualClock())
    run(parts.follow({"a"}))
    assert second.count == 1
    assert parts.faults == {"port": "is taken"}
    assert parts.faults_of([("a", "x")]) == {"port": "is taken"}
    assert parts.faults_of([("b", "x")]) == {}


def test_a_part_that_failed_follows_again_with_those_that_may_have_waited_for_it() -> None:
    first, second = Followed("identity", ConfigError("no")), Followed("links")
    other = Followed("other")
    parts = Parts([first.part("a", "b"), second.part("b", "c"), other.part("c")], ManualClock())
    run(parts.follow({"a"}))
    first.error = None
    run(parts.catch_up())
    assert (first.count, second.count, other.count) == (2, 1, 0)
    assert parts.faults == {}
    run(parts.catch_up())
    assert first.count == 2


def test_an_object_that_is_not_at_work_concerns_who_asked_for_it_alone() -> None:
    links = Followed("links", faults={"a.x": "has no number"})
    parts = Parts([links.part("a")], ManualClock())
    run(parts.follow({"a"}))
    assert parts.faults_of([("a", "x")]) == {"a.x": "has no number"}
    assert parts.faults_of([("a", "y")]) == {}
    run(parts.catch_up())
    assert links.count == 2


def test_a_defect_is_told_by_its_type_alone() -> None:
    parts = Parts([Followed("links", KeyError("a secret")).part("a")], ManualClock())
    run(parts.follow({"a"}))
    assert parts.faults == {"links": "KeyError"}


def test_what_a_cancelled_plan_left_is_followed_from_time_to_time() -> None:
    async def cut_short() -> None:
        clock = ManualClock()
        first, second = Followed("first", gate=asyncio.Event()), Followed("second")
        assert first.gate is not None
        parts = Parts([first.part("a"), second.part("a")], clock)
        plan = asyncio.create_task(parts.follow({"a"}))
        await asyncio.sleep(0)
        plan.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await plan
        first.gate.set()
        assert (first.count, second.count) == (0, 0)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(parts.run())
            await until(lambda: clock.sleepers)
            clock.advance(5)
            await until(lambda: (first.count, second.count) == (1, 1))
            running.cancel()

    run(cut_short())
