"""Outcomes as Markdown for people and as JSON for machines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Bar, Outcome, Verdict, judge
from benchmarks.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.machine import Machine

__all__ = [
    "as_json",
    "describe_bar",
    "describe_run",
    "format_figure",
    "machine_text",
    "render_section",
]


def format_figure(value: float) -> str:
    """Return a figure with three significant digits, thousands grouped: 35,100 or 0.842."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    if decimals <= 0:
        return f"{round(value, decimals):,.0f}"
    return f"{value:.{decimals}f}"


def render_section(outcome: Outcome, *, taken: str) -> Section:
    """Return what the page says of an outcome; ``taken`` says when and how it was measured."""
    benchmark = outcome.benchmark
    return Section(
        title=benchmark.title,
        bars=tuple(_bar_row(outcome, verdict) for verdict in judge(outcome)),
        text=f"{benchmark.method} {taken} Medians of {_rounds(outcome)}.\n\n{_table(outcome)}",
    )


def describe_run(machine: Machine, versions: Mapping[str, str]) -> str:
    """Return what the latest run was on and with."""
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"The latest run was on {machine.cores} cores ({machine.cpu}), "
        f"{machine.memory_gib:.0f} GiB, {machine.system}, kernel {machine.kernel}.\n\n{programs}."
    )


def machine_text(
    machine: Machine, versions: Mapping[str, str], *, command: str, taken_at: str
) -> str:
    """Return when, how and on what something was measured."""
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Taken {taken_at} with `{command}` on {machine.cores} cores ({machine.cpu}), "
        f"{machine.memory_gib:.0f} GiB, {machine.system}, kernel {machine.kernel}; load average "
        f"before the run {machine.load_before:.2f}.\n\n{programs}."
    )


def describe_bar(bar: Bar, unit: str) -> str:
    """Return what a bar compares, or which figure it holds."""
    what = f"{bar.ours} / {bar.other}" if bar.other else bar.ours
    if bar.key:
        return f"{what} ({bar.key.replace('_', ' ')})"
    return what if bar.other else f"{what} ({unit})"


def as_json(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return every reading."""
    return {
        outcome.benchmark.name: {
            name: [{"value": reading.value, **reading.detail} for reading in readings]
            for name, readings in outcome.readings.items()
        }
        for outcome in outcomes
    }


def _bar_row(outcome: Outcome, verdict: Verdict) -> str:
    benchmark = outcome.benchmark
    cells = (
        f"{benchmark.title}: {describe_bar(verdict.bar, benchmark.unit)}",
        _wanted(verdict.bar),
        format_figure(verdict.median),
        f"{format_figure(verdict.lowest)} - {format_figure(verdict.highest)}",
        "yes" if verdict.is_reached else f"no: {_shortfall(verdict)}",
    )
    return f"| {' | '.join(cells)} |"


def _wanted(bar: Bar) -> str:
    return f"{'<=' if bar.at_most else '>='} {bar.factor:,g}"


def _shortfall(verdict: Verdict) -> str:
    share = verdict.median / verdict.bar.factor
    if verdict.bar.at_most:
        return f"{share:.2f} times what it may be"
    return f"{share:.0%} of the way"


def _rounds(outcome: Outcome) -> str:
    count = len(next(iter(outcome.readings.values())))
    return f"{count} round{'s' if count > 1 else ''}"


def _table(outcome: Outcome) -> str:
    keys = sorted({key for taken in outcome.readings.values() for r in taken for key in r.detail})
    header = ["", outcome.benchmark.unit, *keys, "version"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name in outcome.readings:
        figures = [format_figure(outcome.median(name))]
        for key in keys:
            median = outcome.detail_median(name, key)
            figures.append("" if median is None else format_figure(median))
        lines.append(f"| {name} | " + " | ".join([*figures, outcome.versions[name]]) + " |")
    return "\n".join(lines)
