"""The memory of a million kept OCSP answers, with room for all of them and within the default."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from node_agent.functions.response_cache import DEFAULT_OCTETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["OCSP_MEMORY"]

ANSWERS = 1_000_000
ROOMY_OCTETS = 2 * 2**30
ALL = "room for all"
DEFAULT = f"the default, {DEFAULT_OCTETS // 2**20} MiB"


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    yield [
        Contestant(name=name, measure=partial(_measure, most_octets))
        for name, most_octets in ((ALL, ROOMY_OCTETS), (DEFAULT, DEFAULT_OCTETS))
    ]


def _measure(most_octets: int) -> Reading:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.kept_answers", str(ANSWERS), str(most_octets)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    taken = json.loads(run.stdout)
    return Reading(taken.pop("resident_mib"), taken)


OCSP_MEMORY = Benchmark(
    name="ocsp-memory",
    title="Memory of kept OCSP answers",
    unit="MiB",
    method=(
        f"{ANSWERS:,} answers of a P-256 signer, its certificate in each, are kept one after the "
        "other in a fresh process; resident memory after them less that before. counted_mib is "
        "what the cache counts against its bound, kept how many answers are in it at the end."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=ALL, factor=1536, at_most=True),
        Bar(ours=DEFAULT, factor=1.1 * DEFAULT_OCTETS / 2**20, at_most=True),
    ),
)
