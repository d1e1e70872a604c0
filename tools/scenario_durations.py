"""Run molecule, and say in the end how long each scenario took and what of it each step.

``python -m tools.scenario_durations molecule test …``; its exit status is molecule's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STEP = re.compile(r"^INFO\s+(\S+) ➜ (\S+): Executing$")

Steps = dict[tuple[str, str], float]


def main() -> int:
    """Pass on what molecule says, and note when it begins a step."""
    began = since = time.monotonic()
    steps: Steps = {}
    step = ("", "start")
    with subprocess.Popen(
        sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if found := _STEP.match(_COLOUR.sub("", line).strip()):
                now = time.monotonic()
                steps[step] = steps.get(step, 0) + now - since
                step, since = (found[1], found[2]), now
    now = time.monotonic()
    steps[step] = steps.get(step, 0) + now - since
    print(report(steps), f"acceptance: {now - began:.0f} s", sep="\n")
    return running.returncode


def report(steps: Steps) -> str:
    """Return a line for each scenario, in the order in which they began."""
    lines = []
    for scenario in dict.fromkeys(name for name, _ in steps if name):
        own = {step: seconds for (name, step), seconds in steps.items() if name == scenario}
        # What takes no second is molecule's own.
        parts = ", ".join(f"{step} {own[step]:.0f}" for step in own if own[step] >= 1)
        lines.append(f"{sum(own.values()):5.0f} s  {scenario:<20} {parts}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
