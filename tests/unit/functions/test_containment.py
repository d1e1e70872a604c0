"""One item's unexpected failure is told and tried again, less and less often; the rest goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from node_agent.errors import Conflict, UnexpectedFailure
from node_agent.functions.containment import Containment
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def contained(clock: ManualClock) -> Iterator[Containment]:
    with capture_logs():
        yield Containment("work", clock=clock)


def fail(contained: Containment, error: BaseException, item: str = "a") -> None:
    with contained.around(item):
        raise error


def test_what_nobody_foresaw_is_an_unexpected_failure_of_its_item_with_a_trace(
    clock: ManualClock,
) -> None:
    contained = Containment("comparison", clock=clock)
    cause = IndexError("tuple index out of range")
    with capture_logs() as logs, pytest.raises(UnexpectedFailure, match="IndexError") as raised:
        fail(contained, cause)
    assert raised.value.__cause__ is cause
    (entry,) = logs
    assert (entry["work"], entry["item"], entry["exc_info"]) == ("comparison", "a", True)
    assert contained.pause_seconds("a") == 1.0
    assert contained.pause_seconds("b") == 0.0


@pytest.mark.parametrize(
    "error", [Conflict("foreseen"), TimeoutError(), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_what_is_foreseen_passes_as_it_is(contained: Containment, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        fail(contained, error)
    assert raised.value is error
    assert contained.pause_seconds("a") == 0.0


def test_pauses_grow_up_to_a_bound(contained: Containment, clock: ManualClock) -> None:
    pauses = []
    for _ in range(11):
        with pytest.raises(UnexpectedFailure):
            fail(contained, ValueError())
        pauses.append(contained.pause_seconds("a"))
        clock.advance(pauses[-1])
        assert contained.pause_seconds("a") == 0.0
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_success_ends_the_pause(contained: Containment) -> None:
    for _ in range(3):
        with pytest.raises(UnexpectedFailure):
            fail(contained, ValueError())
    with contained.around("a"):
        pass
    assert contained.pause_seconds("a") == 0.0
    with pytest.raises(UnexpectedFailure):
        fail(contained, ValueError())
    assert contained.pause_seconds("a") == 1.0


def test_failures_far_apart_are_each_the_first(contained: Containment, clock: ManualClock) -> None:
    for _ in range(3):
        with pytest.raises(UnexpectedFailure):
            fail(contained, ValueError())
        assert contained.pause_seconds("a") == 1.0
        clock.advance(601)
