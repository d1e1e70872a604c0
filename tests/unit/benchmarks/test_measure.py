"""Ratios are taken round by round and medians reported, so that one bad round decides nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import (
    Bar,
    Benchmark,
    Contestant,
    Outcome,
    Reading,
    RunSettings,
    judge,
    run_benchmark,
)
from benchmarks.report import as_json, format_figure, render_section

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def benchmark(*bars: Bar, contestants: Sequence[Contestant] = ()) -> Benchmark:
    @contextlib.contextmanager
    def prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
        yield contestants

    return Benchmark(
        name="race", title="A race", unit="laps/s", method="They run.", prepare=prepare, bars=bars
    )


def outcome(bar: Bar, ours: Sequence[float], other: Sequence[float]) -> Outcome:
    readings = {"ours": [Reading(v) for v in ours], "other": [Reading(v) for v in other]}
    return Outcome(
        benchmark=benchmark(bar), readings=readings, versions={"ours": "", "other": "1.0"}
    )


def test_each_round_measures_everyone_in_turn_after_a_warm_up(tmp_path: Path) -> None:
    calls: list[str] = []

    def runner(name: str) -> Contestant:
        def measure() -> Reading:
            calls.append(name)
            return Reading(float(len(calls)))

        return Contestant(name=name, measure=measure)

    race = benchmark(contestants=[runner("a"), runner("b")])
    result = run_benchmark(race, RunSettings(directory=tmp_path, rounds=2), progress=calls.append)
    assert [call for call in calls if call in "ab"] == ["a", "b", "a", "b", "a", "b"]
    assert len(result.readings["a"]) == 2


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The medians of both (10 and 10) would say 1.0; the pairs say 2.0.
    found = judge(outcome(Bar(ours="ours", other="other", factor=1.5), [2, 10, 40], [1, 5, 20]))
    assert [(v.median, v.lowest, v.highest, v.is_reached) for v in found] == [(2, 2, 2, True)]


@pytest.mark.parametrize(("factor", "is_reached"), [(3.0, True), (1.5, False)])
def test_a_bar_of_at_most_is_reached_from_below(factor: float, *, is_reached: bool) -> None:
    bar = Bar(ours="ours", other="other", factor=factor, at_most=True)
    assert judge(outcome(bar, [2, 2, 2], [1, 1, 1]))[0].is_reached is is_reached


def test_a_bar_can_compare_a_further_figure() -> None:
    taken = outcome(Bar(ours="ours", other="other", factor=3, key="cpu"), [1], [1])
    for name, value in (("ours", 9.0), ("other", 3.0)):
        taken.readings[name][0].detail["cpu"] = value
    assert [(verdict.median, verdict.is_reached) for verdict in judge(taken)] == [(3.0, True)]


@pytest.mark.parametrize(("factor", "is_reached"), [(5.0, True), (2.5, False)])
def test_a_bar_without_another_contestant_is_absolute(factor: float, *, is_reached: bool) -> None:
    taken = outcome(Bar(ours="ours", factor=factor, at_most=True), [2, 3, 40], [1, 1, 1])
    (verdict,) = judge(taken)
    assert (verdict.median, verdict.lowest, verdict.highest) == (3, 2, 40)
    assert verdict.is_reached is is_reached


def test_an_absolute_bar_can_hold_a_further_figure() -> None:
    taken = outcome(Bar(ours="ours", factor=5, at_most=True, key="start_seconds"), [1], [1])
    taken.readings["ours"][0].detail["start_seconds"] = 6.0
    assert [(verdict.median, verdict.is_reached) for verdict in judge(taken)] == [(6.0, False)]
    assert render_section(taken, taken="").bars == (
        "| A race: ours (start seconds) | <= 5 | 6.00 | 6.00 - 6.00 "
        "| no: 1.20 times what it may be |",
    )


def test_the_page_says_how_much_is_missing() -> None:
    bar = Bar(ours="ours", other="other", factor=4.0)
    section = render_section(outcome(bar, [2, 2, 2], [1, 1, 1]), taken="Taken by `a command`.")
    row = "| A race: ours / other | >= 4 | 2.00 | 2.00 - 2.00 | no: 50% of the way |"
    assert section.bars == (row,)
    assert section.text.startswith("They run. Taken by `a command`. Medians of 3 rounds.")


def test_an_absolute_bar_on_the_page_names_its_unit() -> None:
    section = render_section(outcome(Bar(ours="ours", factor=1), [2], [1]), taken="")
    assert section.bars == ("| A race: ours (laps/s) | >= 1 | 2.00 | 2.00 - 2.00 | yes |",)


def test_json_keeps_every_reading_with_its_details() -> None:
    taken = outcome(Bar(ours="ours", other="other", factor=1), [1], [2])
    taken.readings["ours"][0].detail["p50_ms"] = 3.0
    assert as_json([taken])["race"] == {
        "ours": [{"value": 1, "p50_ms": 3.0}],
        "other": [{"value": 2}],
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(35123.4, "35,100"), (1.2345, "1.23"), (0.01234, "0.0123"), (999.9, "1,000"), (0.0, "0")],
)
def test_figures_have_three_significant_digits(value: float, text: str) -> None:
    assert format_figure(value) == text
