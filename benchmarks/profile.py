"""Where the time goes: py-spy samples running agents, and the samples become two short lists."""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.programs import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["record_profiles", "summarize_samples"]

_RATE_HZ = 250


@contextlib.contextmanager
def record_profiles(
    processes: Mapping[str, int], directory: Path, *, seconds: float
) -> Iterator[None]:
    """Sample the processes (name to pid) while the block runs, at most for ``seconds``.

    Leaves ``<name>.samples`` (collapsed stacks) and ``<name>.txt`` (the lists) in ``directory``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    samplers = [
        subprocess.Popen(
            [
                require_program("py-spy"),
                "record",
                *("--nonblocking", "--threads", "--format", "raw", "--rate", str(_RATE_HZ)),
                *("--duration", str(max(1, round(seconds))), "--pid", str(pid)),
                *("--output", directory / f"{name}.samples"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, pid in processes.items()
    ]
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.wait(seconds + 30)
    for name in processes:
        samples = directory / f"{name}.samples"
        (directory / f"{name}.txt").write_text(summarize_samples(samples.read_text()))


def summarize_samples(collapsed: str, *, lines: int = 40) -> str:
    """Return the functions with most own and most total time, in percent of all samples."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for line in collapsed.splitlines():
        stack, _, count_text = line.rpartition(" ")
        frames, count = stack.split(";"), int(count_text)
        threads[frames[0]] += count
        own[frames[-1]] += count
        for function in {_without_line(frame) for frame in frames[1:]}:
            total[function] += count
    samples = sum(own.values()) or 1
    parts = [f"{samples} samples"]
    for title, counter in (("thread", threads), ("own time", own), ("total time", total)):
        parts.append(f"-- {title}")
        parts += (f"{n / samples:6.1%}  {name}" for name, n in counter.most_common(lines))
    return "\n".join(parts) + "\n"


def _without_line(frame: str) -> str:
    place, colon, _ = frame.rpartition(":")
    return f"{place})" if colon else frame
