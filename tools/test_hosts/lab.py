"""What a person asks for: up, down, and what can happen to hosts and networks between the two."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.test_hosts import host as hosts
from tools.test_hosts.base_tree import base_trees, remove_unfinished
from tools.test_hosts.cgroups import remove_cgroups
from tools.test_hosts.commands import succeeds
from tools.test_hosts.errors import LabError
from tools.test_hosts.host_processes import HostProcesses, cut_power, find_processes
from tools.test_hosts.inventory_writer import write_inventory
from tools.test_hosts.keys import ensure_key
from tools.test_hosts.modes import usual_umask
from tools.test_hosts.mounts import unmount_below
from tools.test_hosts.network import (
    ensure_network,
    load_rules,
    pull_cable,
    remove_cable,
    remove_network,
)
from tools.test_hosts.progress import report
from tools.test_hosts.state import (
    existing_lab,
    locked,
    record_cuts,
    record_lab,
    recorded_cuts,
    recorded_lab,
)

if TYPE_CHECKING:
    from tools.test_hosts.model import Host, Lab
    from tools.test_hosts.places import Places

BOOT_SECONDS = 120
_NO_PROCESSES = HostProcesses()
_READINESS = Path(__file__).with_name("readiness.py")


def up(wanted: Lab, places: Places, *, asks_sudo_password: bool = False) -> None:
    """Make the hosts of ``wanted`` that aren't there, and start those that don't run.

    Hosts that are there already stay as they are; they stay in the lab, too.
    """
    with usual_umask():
        trees = base_trees(places.cache, wanted.releases)
    with locked(places):
        present = recorded_lab(places)
        lab = wanted if present is None else _extended(present, wanted)
        record_lab(lab, places)
        ensure_key(places.login_key)
        if asks_sudo_password and not places.sudo_password.exists():
            places.sudo_password.touch(mode=0o600)
            places.sudo_password.write_text(secrets.token_urlsafe(12), encoding="ascii")
        ensure_network(lab, places)
        load_rules(lab, recorded_cuts(places), places)
        report(f"network: {', '.join(zone.name for zone in lab.zones)}, and a router between them")
        for host in lab.hosts:
            places.host(host.name).mkdir(parents=True, exist_ok=True)
        write_inventory(lab, places)
        for release, tree in trees.items():
            link = places.tree(release)
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(tree)
        _start(lab.hosts, lab, places)


def down(places: Places) -> None:
    """Remove every process, mount, namespace and file; only the cached base tree stays."""
    with locked(places):
        forget_connections(places)
        ended = cut_power(places)
        remove_cgroups(places)
        unmount_below(places.directory)
        remove_network(places)
        shutil.rmtree(places.directory)
    remove_unfinished(places.cache)
    report(f"{len(ended)} hosts ran and are gone, and every file of theirs")


def kill(names: list[str], places: Places) -> None:
    """Cut the hosts' power. What they wrote stays on their disks."""
    with locked(places):
        lab = existing_lab(places)
        _kill([lab.host(name) for name in names], places)


def start(names: list[str], places: Places) -> None:
    """Boot hosts that are without power."""
    with locked(places):
        lab = existing_lab(places)
        _start([lab.host(name) for name in names], lab, places)


def reset(names: list[str], places: Places) -> None:
    """Give hosts empty disks; without names, all hosts. They keep their SSH keys."""
    with locked(places):
        lab = existing_lab(places)
        chosen = [lab.host(name) for name in names] or list(lab.hosts)
        _kill(chosen, places)
        for host in chosen:
            hosts.wipe(host.name, places)
        _start(chosen, lab, places)


def cut(pair: tuple[str, str], places: Places) -> None:
    """Let the router drop everything between two zones."""
    with locked(places):
        lab = existing_lab(places)
        cuts = recorded_cuts(places) | {frozenset(lab.zone(name).name for name in pair)}
        load_rules(lab, cuts, places)
        record_cuts(cuts, places)
    report(f"cut: {' and '.join(pair)} don't hear each other")


def heal(places: Places) -> None:
    """Let the router do again what the zones say."""
    with locked(places):
        load_rules(existing_lab(places), (), places)
        record_cuts(set(), places)
    report("healed: zones hear each other as they should")


def limit_disk(name: str, directory: str, size: str, places: Places) -> None:
    """Put a small memory disk over a directory of a running host, with its owner and mode."""
    existing_lab(places).host(name)
    init = running_init(name, places)
    inside = ["nsenter", "-t", str(init), "--mount", "--pid", "--", "sh", "-ec", _LIMIT, "sh"]
    ended = subprocess.run([*inside, directory, size], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LabError(f"{name}: {directory}: {ended.stderr.strip()}")
    report(f"{name}: {directory} has room for {size}")


_LIMIT = """
owner=$(stat -c %u:%g "$1") mode=$(stat -c %a "$1")
mount -t tmpfs -o "size=$2,mode=$mode" peersys-test-disk "$1"
chown "$owner" "$1"
"""


def running_init(name: str, places: Places) -> int:
    """Return the process number of a running host's init. Raises LabError without one."""
    init = find_processes(places).get(name, _NO_PROCESSES).init
    if init is None:
        raise LabError(f"the host {name} isn't running; 'start {name}' boots it")
    return init


def status(places: Places) -> list[tuple[str, str, str, str]]:
    """Return name, zone, address and state of every host."""
    lab = existing_lab(places)
    running = find_processes(places)
    return [
        (
            host.name,
            host.zone,
            str(host.address),
            "running" if running.get(host.name, _NO_PROCESSES).init else "without power",
        )
        for host in lab.hosts
    ]


def _extended(present: Lab, wanted: Lab) -> Lab:
    try:
        return present.merged(wanted)
    except LabError as error:
        raise LabError(f"{error}; 'make hosts-down' removes the hosts that are there") from None


def _kill(chosen: list[Host], places: Places) -> None:
    for host in chosen:
        forget_connections(places, str(host.address))
        pull_cable(host.name, places)
    cut_power(places, [host.name for host in chosen])
    for host in chosen:
        remove_cable(host.name, places)
        remove_cgroups(places, host.name)
        hosts.unmount(host.name, places)
        report(f"{host.name}: without power")


def _start(chosen: list[Host] | tuple[Host, ...], lab: Lab, places: Places) -> None:
    """Boot what doesn't run, all at once, and wait until the login user can work on each."""
    running = find_processes(places)
    for host in chosen:
        if running.get(host.name, _NO_PROCESSES).init is None:
            # A starter that was interrupted may hold the name still.
            cut_power(places, [host.name])
            with usual_umask():
                hosts.prepare(host, lab, places)
                hosts.start(host, lab, places)
    _wait(chosen, places)


def _wait(chosen: list[Host] | tuple[Host, ...], places: Places) -> None:
    watch = [sys.executable, "-I", str(_READINESS), str(BOOT_SECONDS)]
    command = [*places.into_controller_namespace, *watch, str(places.ssh_configuration)]
    command += [f"{host.name}={host.address}" for host in chosen]
    waiting = {host.name: host for host in chosen}
    late = []
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            verdict, name, *cause = line.split(maxsplit=2)
            if verdict == "late":
                late.append(f"{name}: {' '.join(cause).strip()}; see {places.console(name)}")
                continue
            host = waiting.pop(name)
            seconds = time.monotonic() - began
            report(f"{name}: {host.address} in zone {host.zone} is ready after {seconds:.1f} s")
    if waiting:
        raise LabError(
            "\n".join([f"nobody can work on {', '.join(waiting)} after {BOOT_SECONDS} s", *late])
        )


def forget_connections(places: Places, address: str = "*") -> None:
    """End what SSH keeps open for later tasks; it would wait for hosts that are gone."""
    for socket in places.control_sockets.glob(address):
        succeeds("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "test-host")
        socket.unlink(missing_ok=True)


def run_with_network(name: str | None, command: list[str], places: Places) -> None:
    """Become ``command``, with the network of a host, or of the controller without a name."""
    existing_lab(places)
    if name is None:
        enter = list(places.into_controller_namespace)
    else:
        enter = ["nsenter", "-t", str(running_init(name, places)), "--net", "--"]
    os.execvp(enter[0], [*enter, *command])  # noqa: S606  a list, and no shell
