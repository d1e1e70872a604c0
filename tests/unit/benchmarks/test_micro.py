"""Every timed step runs, and the timer gives what a call takes."""

from __future__ import annotations

import time

import pytest

from benchmarks.micro import STEPS, measure_microseconds


@pytest.mark.parametrize("name", STEPS)
def test_a_step_can_be_repeated(name: str) -> None:
    step = STEPS[name]()
    assert type(step()) is type(step())


def test_the_figure_is_the_time_of_one_call() -> None:
    assert measure_microseconds(lambda: time.sleep(0.002), repeats=1) >= 2000
