"""Who waits for scenarios is told which of them took the time, and how they ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.scenario_durations import report

ROOT = Path(__file__).parents[3]
# As molecule says it, with colours.
SAYS = """\
printf 'INFO     default \\342\\236\\234 create: Executing\\n'
printf '\\033[34mINFO    \\033[0m \\033[2mpartition \\342\\236\\234 verify: \\033[0mExecuting\\n'
printf 'INFO     partition \\342\\236\\234 verify: Executed: Successful\\n'
exit {status}
"""


@pytest.mark.parametrize("status", [0, 3])
def test_what_is_run_is_passed_on_with_its_status(status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.scenario_durations", "sh", "-c", SAYS.format(status=status)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    *_, default, partition, whole = done.stdout.splitlines()
    assert "partition ➜ verify: Executed: Successful" in done.stdout
    assert default.split()[1:3] == ["s", "default"]
    assert partition.split()[1:3] == ["s", "partition"]
    assert whole.startswith("acceptance: ")


def test_steps_are_added_up_in_the_order_of_scenarios() -> None:
    steps = {
        ("", "start"): 1.0,
        ("default", "create"): 60.0,
        ("partition", "converge"): 12.4,
        ("partition", "verify"): 0.3,
        ("default", "destroy"): 4.0,
    }
    assert report(steps).splitlines() == [
        "   64 s  default              create 60, destroy 4",
        "   13 s  partition            converge 12",
    ]
