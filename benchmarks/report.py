"""Outcomes as Markdown for people and as JSON for machines; the page is written between markers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measure import Bar, Outcome, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.machine import Machine

__all__ = [
    "DEPLOYMENTS",
    "OUTCOMES",
    "PAGE",
    "Markers",
    "as_json",
    "format_figure",
    "machine_text",
    "render_outcomes",
    "write_between_markers",
]

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


class Markers(NamedTuple):
    """What stands on the page around a measured part."""

    begin: str
    end: str


OUTCOMES = Markers("<!-- benchmarks: begin -->", "<!-- benchmarks: end -->")
DEPLOYMENTS = Markers("<!-- deployments: begin -->", "<!-- deployments: end -->")


def format_figure(value: float) -> str:
    """Return a figure with three significant digits, thousands grouped: 35,100 or 0.842."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    if decimals <= 0:
        return f"{round(value, decimals):,.0f}"
    return f"{value:.{decimals}f}"


def render_outcomes(
    outcomes: Sequence[Outcome],
    *,
    machine: Machine,
    versions: Mapping[str, str],
    command: str,
    taken_at: str,
) -> str:
    """Return the page's measured part."""
    parts = [machine_text(machine, versions, command=command, taken_at=taken_at)]
    if any(outcome.benchmark.bars for outcome in outcomes):
        parts.append(_bars_text(outcomes))
    parts += (_outcome_text(outcome) for outcome in outcomes)
    return "\n\n".join(parts) + "\n"


def write_between_markers(page: Path, text: str, markers: Markers = OUTCOMES) -> None:
    """Replace what stands between the markers. Raises ValueError when the page has none."""
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(markers.begin)
    _, end, after = rest.partition(markers.end)
    if not begin or not end:
        raise ValueError(f"{page} has no {markers.begin} … {markers.end}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


def as_json(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return every reading."""
    return {
        outcome.benchmark.name: {
            name: [{"value": reading.value, **reading.detail} for reading in readings]
            for name, readings in outcome.readings.items()
        }
        for outcome in outcomes
    }


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


def _bars_text(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| bar | wanted | median ratio | lowest - highest | reached |",
        "|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        lines += (_bar_line(outcome, verdict) for verdict in judge(outcome))
    return "\n".join(lines)


def _bar_line(outcome: Outcome, verdict: Verdict) -> str:
    wanted = _wanted(verdict.bar)
    spread = f"{format_figure(verdict.lowest)} - {format_figure(verdict.highest)}"
    reached = "yes" if verdict.is_reached else f"no: {_shortfall(verdict)}"
    bar = verdict.bar
    what = f"{outcome.benchmark.title}: {bar.ours} / {bar.other}"
    if bar.key:
        what += f" ({bar.key.replace('_', ' ')})"
    return f"| {what} | {wanted} | {format_figure(verdict.ratio)} | {spread} | {reached} |"


def _wanted(bar: Bar) -> str:
    return f"{'<=' if bar.at_most else '>='} {bar.factor:g}"


def _shortfall(verdict: Verdict) -> str:
    share = verdict.ratio / verdict.bar.factor
    if verdict.bar.at_most:
        return f"{share:.2f} times what it may be"
    return f"{share:.0%} of the way"


def _outcome_text(outcome: Outcome) -> str:
    benchmark = outcome.benchmark
    keys = sorted({key for taken in outcome.readings.values() for r in taken for key in r.detail})
    header = ["", benchmark.unit, *keys, "version"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name in outcome.readings:
        figures = [format_figure(outcome.median(name))]
        for key in keys:
            median = outcome.detail_median(name, key)
            figures.append("" if median is None else format_figure(median))
        lines.append(f"| {name} | " + " | ".join([*figures, outcome.versions[name]]) + " |")
    rounds = len(next(iter(outcome.readings.values())))
    return (
        f"### {benchmark.title}\n\n{benchmark.method} Medians of {rounds} rounds.\n\n"
        + "\n".join(lines)
    )
