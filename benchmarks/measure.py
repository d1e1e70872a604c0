"""What a benchmark is: contestants that take turns, round by round, and bars between them.

Other load on a machine changes absolute figures up to threefold. So the contestants of one
benchmark are measured directly after one another in each round, a ratio is taken per round, and
what is reported is the median over the rounds.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = [
    "Bar",
    "Benchmark",
    "Contestant",
    "Outcome",
    "Reading",
    "RunSettings",
    "Verdict",
    "judge",
    "run_benchmark",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How to measure. ``server_cpus`` and ``load_cpus`` are taskset lists."""

    directory: Path
    rounds: int = 5
    seconds: float = 4.0
    server_cpus: str = "0"
    load_cpus: str = "1"
    profile_directory: Path | None = None
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement: the figure, and further figures by name (latencies, CPU shares)."""

    value: float
    detail: dict[str, float] = field(default_factory=dict)

    def figure(self, key: str = "") -> float:
        """Return the figure, or the further figure ``key``."""
        return self.detail[key] if key else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Someone who is measured. ``measure`` takes one reading; it raises when an answer is wrong."""

    name: str
    measure: Callable[[], Reading]
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``ours`` / ``other`` must be at least ``factor``, or at most with ``at_most``.

    Without ``other`` the bar is absolute: for what no other program does (a bound on memory, a time
    that a person waits). ``key`` takes a further figure of the readings instead of the figure.
    """

    ours: str
    factor: float
    other: str = ""
    at_most: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One page section. ``prepare`` starts what is measured and stops it at the end."""

    name: str
    title: str
    unit: str
    method: str
    prepare: Callable[[RunSettings], AbstractContextManager[Sequence[Contestant]]]
    bars: tuple[Bar, ...] = ()
    programs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All readings, per contestant in the order of the rounds."""

    benchmark: Benchmark
    readings: dict[str, list[Reading]]
    versions: dict[str, str]

    def median(self, contestant: str) -> float:
        """Return the median figure."""
        return statistics.median(reading.value for reading in self.readings[contestant])

    def detail_median(self, contestant: str, key: str) -> float | None:
        """Return the median of a further figure, or None when it wasn't taken."""
        values = [
            reading.detail[key] for reading in self.readings[contestant] if key in reading.detail
        ]
        return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar held against an outcome: the median ratio, or the median figure where the bar is
    absolute, and its spread over the rounds.
    """

    bar: Bar
    median: float
    lowest: float
    highest: float

    @property
    def is_reached(self) -> bool:
        """Whether the median is on the right side of the bar."""
        if self.bar.at_most:
            return self.median <= self.bar.factor
        return self.median >= self.bar.factor


def run_benchmark(
    benchmark: Benchmark, settings: RunSettings, *, progress: Callable[[str], None]
) -> Outcome:
    """Prepare, warm up each contestant once, then take the rounds."""
    readings: dict[str, list[Reading]] = {}
    with benchmark.prepare(settings) as contestants:
        for contestant in contestants:
            contestant.measure()
            readings[contestant.name] = []
        for number in range(settings.rounds):
            for contestant in contestants:
                reading = contestant.measure()
                readings[contestant.name].append(reading)
                progress(f"round {number + 1}: {contestant.name} {reading.value:,.2f}")
        versions = {contestant.name: contestant.version for contestant in contestants}
    return Outcome(benchmark=benchmark, readings=readings, versions=versions)


def judge(outcome: Outcome) -> list[Verdict]:
    """Return the verdict on each bar, with ratios taken round by round."""
    verdicts = []
    for bar in outcome.benchmark.bars:
        values = [reading.figure(bar.key) for reading in outcome.readings[bar.ours]]
        if bar.other:
            others = (reading.figure(bar.key) for reading in outcome.readings[bar.other])
            values = [ours / other for ours, other in zip(values, others, strict=True)]
        verdicts.append(Verdict(bar, statistics.median(values), min(values), max(values)))
    return verdicts
