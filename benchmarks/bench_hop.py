"""The latency of one peer hop on an idle machine beside a bare TLS exchange of the same bytes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.hop_ends import ANSWER_BYTES, REQUEST_BYTES, write_identities
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from tests.support.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HOP"]

LINK = "Peersys, call over a link"
SIGNED = "Peersys, signed and decided operation"
ECHO = "bare TLS exchange"
_MODES = {LINK: "link", SIGNED: "signed", ECHO: "echo"}
_ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    directory = settings.directory / "hop"
    write_identities(directory)
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, mode in _MODES.items():
            port = stack.enter_context(_serving(mode, directory, settings))
            measure = partial(_call, mode, directory, port, settings)
            contestants.append(Contestant(name=name, measure=measure))
        yield contestants


@contextlib.contextmanager
def _serving(mode: str, directory: Path, settings: RunSettings) -> Iterator[int]:
    process = ManagedProcess(
        [sys.executable, "-m", "benchmarks.hop", "serve", mode, directory],
        log_path=directory / f"{mode}.log",
        cpus=settings.server_cpus,
        directory=_ROOT,
    )
    process.start()
    try:
        process.wait_ready(lambda: _port(process))
        yield _port(process)
    finally:
        process.stop()


def _port(process: ManagedProcess) -> int:
    """Return the port that the server printed between its log lines, 0 before that."""
    return next((int(line) for line in process.log_tail().splitlines() if line.isdigit()), 0)


def _call(mode: str, directory: Path, port: int, settings: RunSettings) -> Reading:
    run = subprocess.run(
        [
            *("taskset", "--cpu-list", settings.load_cpus, sys.executable, "-m", "benchmarks.hop"),
            *("call", mode, str(directory), str(port), str(settings.seconds)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    taken = json.loads(run.stdout.splitlines()[-1])
    return Reading(taken["p50_ms"], {"p99_ms": taken["p99_ms"], "exchanges": taken["exchanges"]})


HOP = Benchmark(
    name="hop",
    title="One hop, idle",
    unit="p50 ms",
    method=(
        f"{REQUEST_BYTES} bytes there and {ANSWER_BYTES} back between two processes, one after the "
        "other, over TLS 1.3 with certificates of both; each process has a core. The bare exchange "
        "is an asyncio protocol on uvloop that counts bytes; the signed operation has two P-256 "
        "signatures made and two verified, and a policy decision, on its way."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=LINK, other=ECHO, factor=3.0, at_most=True),
        Bar(ours=SIGNED, other=ECHO, factor=3.0, at_most=True),
    ),
    programs=("taskset",),
)
