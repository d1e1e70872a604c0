"""``python -m benchmarks.bench_deploy``: how long a deployment takes, beside six trivial tasks.

Each size is laid out on test hosts of its own with the shipped playbook, over SSH: once on empty
hosts, once unchanged. What a task costs differs from machine to machine, and is mostly the same
whatever the task does; so times are compared with those of six tasks that do nothing, on the same
hosts in the same run. Needs root and what ``make hosts`` needs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.deploy_inventory import write_inventory
from benchmarks.machine import describe_machine
from benchmarks.report import format_figure
from tools.test_hosts import lab
from tools.test_hosts.errors import LabError
from tools.test_hosts.inventory_reader import read_inventories
from tools.test_hosts.places import CACHE, Places
from tools.test_hosts.requirements import check_requirements

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Deployment", "render", "task_runs"]

ROOT = Path(__file__).resolve().parent.parent
SIZES = (4, 8, 16)
# DESIGN.md, "Bars", for eight hosts.
FULL_BAR, UNCHANGED_BAR = 5.0, 1.2
_TRIVIAL_TASKS = 6
_RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one size took, in seconds, and the most tasks that one host ran."""

    hosts: int
    trivial: float
    full: float
    unchanged: float
    task_runs: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_deploy", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="hosts (4 8 16)")
    options = parser.parse_args(arguments)
    try:
        check_requirements()
        machine = describe_machine()
        taken = [_measure(size) for size in options.sizes]
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{machine.cores} cores ({machine.cpu}), load before {machine.load_before:.2f}\n")
    print(render(taken))
    return 0


def _measure(size: int) -> Deployment:
    with tempfile.TemporaryDirectory(prefix="peersys-bench-") as name:
        inventory, places = Path(name) / "inventory", Places(Path(name) / "lab", CACHE)
        write_inventory(ROOT / "inventories/three_tier", inventory, size)
        _play(ROOT / "playbooks/secrets.yml", inventory)
        wanted = read_inventories([str(inventory)])
        nodes = [host.name for host in wanted.hosts if host.zone != "clients"]
        try:
            lab.up(wanted, places)
            # The agent's wheels are built once, by whichever deployment is the first.
            _deploy(inventory, places)
            lab.reset(nodes, places)
            return _time(size, inventory, places, Path(name) / "trivial.yml")
        finally:
            lab.down(places)


def _time(size: int, inventory: Path, places: Places, trivial: Path) -> Deployment:
    trivial.write_text(_trivial_playbook(), encoding="utf-8")
    before, _ = _timed(trivial, inventory, places)
    full, said = _timed(ROOT / "playbooks/site.yml", inventory, places)
    unchanged, said_again = _timed(ROOT / "playbooks/site.yml", inventory, places)
    after, _ = _timed(trivial, inventory, places)
    if changed := [
        match["host"] for match in _RECAP.finditer(said_again) if match["changed"] != "0"
    ]:
        raise LabError(f"the second run changed something on {', '.join(changed)}")
    return Deployment(size, (before + after) / 2, full, unchanged, task_runs(said))


def _timed(playbook: Path, inventory: Path, places: Places) -> tuple[float, str]:
    # Each run opens its own connections, as the first one has to.
    lab.forget_connections(places)
    began = time.monotonic()
    said = _play(playbook, inventory, places.inventory)
    seconds = time.monotonic() - began
    print(f"{playbook.stem}: {seconds:.1f} s", flush=True)
    return seconds, said


def _deploy(inventory: Path, places: Places) -> None:
    _play(ROOT / "playbooks/site.yml", inventory, places.inventory)


def _play(playbook: Path, *inventories: Path) -> str:
    command = [str(Path(sys.executable).parent / "ansible-playbook")]
    command += [f"--inventory={inventory}" for inventory in inventories]
    ended = subprocess.run(
        [*command, str(playbook)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise LabError(f"{playbook.name} failed:\n{ended.stdout[-4000:]}{ended.stderr[-2000:]}")
    return ended.stdout


def _environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "ANSIBLE_REMOTE_TEMP"}
    return {**own, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}


def _trivial_playbook() -> str:
    task = (
        "    - name: Do nothing\n      ansible.builtin.command: 'true'\n      changed_when: false\n"
    )
    head = "- name: Do nothing\n  hosts: peersys_nodes\n  gather_facts: false\n  tasks:\n"
    return head + task * _TRIVIAL_TASKS


def task_runs(said: str) -> int:
    """Return how many tasks the busiest host ran, from what a playbook's run printed."""
    return max(int(m["ok"]) for m in _RECAP.finditer(said) if m["host"] != "localhost")


def render(taken: Sequence[Deployment]) -> str:
    """Return the table, and what the bars say of eight hosts."""
    lines = [
        "| hosts | six trivial tasks, s | full, s | ratio | unchanged, s | ratio "
        "| task runs per host | full, s per host |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in taken:
        figures = (
            one.trivial,
            one.full,
            one.full / one.trivial,
            one.unchanged,
            one.unchanged / one.trivial,
        )
        shown = " | ".join(format_figure(figure) for figure in figures)
        each = format_figure(one.full / one.hosts)
        lines.append(f"| {one.hosts} | {shown} | {one.task_runs} | {each} |")
    for one in taken:
        if one.hosts == 8:
            lines += ["", _verdict("full", one.full / one.trivial, FULL_BAR)]
            lines += [_verdict("unchanged", one.unchanged / one.trivial, UNCHANGED_BAR)]
    return "\n".join(lines)


def _verdict(what: str, ratio: float, bar: float) -> str:
    reached = "reached" if ratio <= bar else f"not reached: {ratio / bar:.2f} times what it may be"
    return f"bar for eight hosts, {what}: <= {bar:g}, measured {format_figure(ratio)}: {reached}"


if __name__ == "__main__":
    sys.exit(main())
