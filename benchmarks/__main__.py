"""``python -m benchmarks``: measure real nodes beside other programs, and write the page.

With --only, what is measured takes its own place in the page and leaves the rest of it as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    bench_authorities,
    bench_chain,
    bench_crl,
    bench_enrolment,
    bench_flood,
    bench_hop,
    bench_idle_peers,
    bench_ocsp,
    bench_ocsp_memory,
    bench_ocsp_workers,
    bench_partition,
    bench_publishing,
    bench_signers,
    bench_sync,
)
from benchmarks.machine import describe_machine, library_versions
from benchmarks.measure import Benchmark, Outcome, RunSettings, judge, run_benchmark
from benchmarks.page import PAGE, join_sections, merge_sections
from benchmarks.programs import PROGRAMS, missing_programs, program_version
from benchmarks.report import (
    as_json,
    describe_bar,
    describe_run,
    format_figure,
    render_section,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        bench_enrolment.ENROLMENT,
        bench_chain.CHAIN,
        bench_flood.FLOOD,
        bench_hop.HOP,
        bench_partition.PARTITION,
        bench_idle_peers.IDLE_PEERS,
        bench_ocsp.CACHED,
        bench_ocsp.SIGNED,
        bench_ocsp_workers.WORKERS,
        bench_ocsp_memory.OCSP_MEMORY,
        bench_publishing.PUBLISHING,
        bench_sync.SYNC,
        bench_crl.CRL,
        bench_authorities.AUTHORITIES,
        bench_signers.SIGNERS,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 0, or 2 when a program is missing."""
    options = _parser().parse_args(arguments)
    if options.install_hint:
        print("\n".join(f"{p.name:8} {p.install}" for p in PROGRAMS.values()))
        return 0
    chosen = [BENCHMARKS[name] for name in options.only or BENCHMARKS]
    needed = {name for benchmark in chosen for name in benchmark.programs}
    missing = missing_programs(tuple(sorted(needed | ({"py-spy"} if options.profile else set()))))
    if missing:
        for program in missing:
            print(f"{program.name} is missing: {program.install}", file=sys.stderr)
        return 2
    _run_all(chosen, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="these alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="length of one measurement (default 4)"
    )
    parser.add_argument("--workers", type=int, default=2, help="status workers of a VA (default 2)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every reading to FILE")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="DIRECTORY",
        help="sample the agents while they are measured, and put the stacks and a list of where "
        "the time goes there, for each agent; the figures are then a little low",
    )
    parser.add_argument(
        "--install-hint", action="store_true", help="say how to install each program, and end"
    )
    return parser


def _run_all(chosen: Sequence[Benchmark], options: argparse.Namespace) -> None:
    options.machine = machine = describe_machine()
    print(f"{machine.cpu}, {machine.cores} cores, load {machine.load_before:.2f}", flush=True)
    about = describe_run(machine, library_versions())
    order = [benchmark.title for benchmark in BENCHMARKS.values()]
    outcomes, sections = [], []
    for benchmark in chosen:
        outcomes.append(_run(benchmark, options))
        sections.append(render_section(outcomes[-1], taken=_taken(outcomes[-1], options)))
        # After each one: a benchmark that fails takes nothing along that was measured before.
        if options.write:
            merge_sections(PAGE, sections[-1:], about=about, order=order)
        if options.json:
            options.json.write_text(json.dumps(as_json(outcomes), indent=1))
    print(join_sections(sections, about=about))


def _run(benchmark: Benchmark, options: argparse.Namespace) -> Outcome:
    print(f"== {benchmark.title} (load {os.getloadavg()[0]:.2f})", flush=True)
    with tempfile.TemporaryDirectory(prefix="peersys-bench-") as directory:
        settings = RunSettings(
            directory=Path(directory),
            rounds=options.rounds,
            seconds=options.seconds,
            profile_directory=options.profile,
            workers=options.workers,
        )
        outcome = run_benchmark(
            benchmark, settings, progress=lambda line: print(f"  {line}", flush=True)
        )
    for verdict in judge(outcome):
        what = describe_bar(verdict.bar, benchmark.unit)
        print(f"   {what} = {format_figure(verdict.median)}", flush=True)
    return outcome


def _taken(outcome: Outcome, options: argparse.Namespace) -> str:
    versions = {name: program_version(name) for name in outcome.benchmark.programs}
    beside = [
        f"{name} ({version})"
        for name, version in versions.items()
        if name not in ("taskset", "openssl") and version not in outcome.versions.values()
    ]
    return (
        f"Taken {datetime.now(UTC):%Y-%m-%d} by `{_command(options)}`"
        f"{' with ' if beside else ''}{', '.join(beside)}; "
        f"load average before the run {options.machine.load_before:.2f}."
    )


def _command(options: argparse.Namespace) -> str:
    parts = ["python", "-m", "benchmarks", f"--rounds={options.rounds}"]
    parts += [f"--seconds={options.seconds:g}"]
    if options.only:
        parts += ["--only", *options.only]
    return shlex.join(parts)


if __name__ == "__main__":
    sys.exit(main())
