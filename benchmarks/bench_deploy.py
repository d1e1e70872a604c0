"""``python -m benchmarks.bench_deploy``: how long a deployment takes, beside six trivial tasks.

Each size is laid out on test hosts of its own with the shipped playbook, over SSH: once on empty
hosts, once unchanged. What a task costs differs from machine to machine, and is mostly the same
whatever the task does; so times are compared with those of six tasks that do nothing, on the same
hosts in the same run. Needs root, what ``make hosts`` needs, and ``mkfs.ext4``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.deploy_inventory import write_inventory
from benchmarks.disk import new_disk
from benchmarks.machine import describe_machine
from benchmarks.page import DEPLOYMENTS, PAGE, write_between_markers
from benchmarks.report import format_figure, machine_text
from tools.test_hosts import lab
from tools.test_hosts.errors import LabError
from tools.test_hosts.inventory_reader import read_inventories
from tools.test_hosts.places import CACHE, Places
from tools.test_hosts.requirements import check_requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.machine import Machine

__all__ = ["Deployment", "render", "task_runs"]

ROOT = Path(__file__).resolve().parent.parent
SIZES = (4, 8, 16)
# For eight hosts.
FULL_BAR, UNCHANGED_BAR = 5.0, 1.2
# What a host costs that is added to eight, beside one that is added to four: flat would be 1. Times
# that move by a twentieth from run to run move this ratio by a quarter.
FLAT_BAR = 1.25
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
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args(arguments)
    try:
        check_requirements()
        machine = describe_machine()
        _build_release(min(options.sizes))
        taken = [_measure(size) for size in options.sizes]
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = f"{_circumstances(machine, options.sizes)}\n\n{render(taken)}\n"
    if options.write:
        write_between_markers(PAGE, text, DEPLOYMENTS)
    print(f"\n{text}")
    return 0


def _circumstances(machine: Machine, sizes: Sequence[int]) -> str:
    command = ["python", "-m", "benchmarks.bench_deploy"]
    if tuple(sizes) != SIZES:
        command += ["--sizes", *map(str, sizes)]
    return machine_text(
        machine,
        {"Python": platform.python_version(), "ansible-core": version("ansible-core")},
        command=shlex.join(command),
        taken_at=f"{datetime.now(UTC):%Y-%m-%d}",
    )


def _measure(size: int) -> Deployment:
    with _hosts(size) as (inventory, places):
        return _time(size, inventory, places)


def _build_release(size: int) -> None:
    """Let one deployment, which isn't timed, build the agent's wheels for all that follow."""
    with _hosts(size) as (inventory, places):
        _deploy(inventory, places)


@contextmanager
def _hosts(size: int) -> Iterator[tuple[Path, Places]]:
    """Yield an inventory of ``size`` nodes, and the place of its hosts: new ones on a new disk."""
    with (
        tempfile.TemporaryDirectory(prefix="peersys-bench-") as name,
        new_disk(Path(name)) as disk,
    ):
        inventory, places = Path(name) / "inventory", Places(disk / "lab", CACHE)
        write_inventory(ROOT / "inventories/three_tier", inventory, size)
        _play(ROOT / "playbooks/secrets.yml", inventory)
        wanted = read_inventories([str(inventory)])
        try:
            lab.up(wanted, places)
            yield inventory, places
        finally:
            lab.down(places)


def _time(size: int, inventory: Path, places: Places) -> Deployment:
    trivial = inventory.with_name("trivial.yml")
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
    """Return the table, and what the bars say: of eight hosts, and of those that are added."""
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
    if verdicts := list(_verdicts(taken)):
        lines += ["", *verdicts]
    return "\n".join(lines)


def _verdicts(taken: Sequence[Deployment]) -> Iterator[str]:
    of_size = {one.hosts: one for one in taken}
    if (eight := of_size.get(8)) is not None:
        yield _verdict("eight hosts, full", eight.full / eight.trivial, FULL_BAR)
        yield _verdict("eight hosts, unchanged", eight.unchanged / eight.trivial, UNCHANGED_BAR)
    if of_size.keys() >= set(SIZES):
        early, late = (_added(of_size[few], of_size[many]) for few, many in pairwise(SIZES))
        costs = f"{format_figure(early)} s up to eight, {format_figure(late)} s up to sixteen"
        # Where the first four are free, nothing can be compared with them.
        ratio = late / early if early > 0 else float("inf")
        yield f"{_verdict('an added host, full', ratio, FLAT_BAR)} ({costs})"


def _added(few: Deployment, many: Deployment) -> float:
    """Return what each host costs, in seconds, by which the greater one has more."""
    return (many.full - few.full) / (many.hosts - few.hosts)


def _verdict(what: str, ratio: float, bar: float) -> str:
    reached = "reached" if ratio <= bar else f"not reached: {ratio / bar:.2f} times what it may be"
    return f"- bar for {what}: <= {bar:g}, measured {format_figure(ratio)}: {reached}"


if __name__ == "__main__":
    sys.exit(main())
