"""Single steps of a request, one call at a time: ``python -m benchmarks.micro``.

What a step costs when nothing else runs. The sum of the steps of a path is the least that the path
can cost; what it costs beyond that is waiting, copying and scheduling.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable, Sequence

from benchmarks.micro_peers import PEER_STEPS
from benchmarks.micro_pki import PKI_STEPS
from benchmarks.micro_pool import POOL_STEPS
from benchmarks.micro_wire import WIRE_STEPS

__all__ = ["STEPS", "measure_microseconds"]

Step = Callable[[], object]

STEPS: dict[str, Callable[[], Step]] = {**WIRE_STEPS, **POOL_STEPS, **PEER_STEPS, **PKI_STEPS}
"""Name to a function that prepares the step and returns the call to measure."""


def measure_microseconds(step: Step, *, repeats: int = 5) -> float:
    """Return the best of ``repeats`` averages: everything that disturbs makes it longer."""
    timer = timeit.Timer(step)
    number, _ = timer.autorange()
    return min(timer.repeat(repeats, number)) / number * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the cost of each step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="steps that hold one of these")
    options = parser.parse_args(arguments)
    for name, prepare in STEPS.items():
        if options.names and not any(part in name for part in options.names):
            continue
        print(f"{measure_microseconds(prepare()):10.2f} us  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
