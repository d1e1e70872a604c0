"""Two test hosts in two zones: booted, reached, cut apart, reset, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.tools.test_hosts.labs import FAR, NEAR, SMALL
from tools.test_hosts import lab
from tools.test_hosts.cgroups import cgroups
from tools.test_hosts.commands import run
from tools.test_hosts.errors import LabError
from tools.test_hosts.host_processes import find_processes
from tools.test_hosts.mounts import mounts_below
from tools.test_hosts.network import namespaces
from tools.test_hosts.places import CACHE, Places
from tools.test_hosts.requirements import missing_packages
from tools.test_hosts.state import recorded_lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISSING = ["root"] * (os.geteuid() != 0) + missing_packages()
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"test hosts need {', '.join(MISSING)}"),
    pytest.mark.slow,
    # The first of all runs makes the base tree.
    pytest.mark.timeout(600),
]

_DIAL = "import socket,sys; socket.create_connection((sys.argv[1], 22), 2)"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Boot the small lab for all tests of this file."""
    own = Places(tmp_path_factory.mktemp("lab"), CACHE)
    before = os.umask(0o077)  # hosts are what they are, whoever makes them
    try:
        lab.up(SMALL, own)
        yield own
    finally:
        os.umask(before)
        lab.down(own)
        assert traces(own) == []


def traces(places: Places) -> list[str]:
    """Return everything that a lab could leave behind."""
    left = [f"process of {name}" for name in find_processes(places)]
    left += [f"mount {point}" for point in mounts_below(places.directory)]
    left += [f"namespace {n}" for n in namespaces() if n.startswith(places.controller_namespace)]
    left += [f"control group {group}" for group in cgroups(places) if group.exists()]
    left += [str(places.directory)] if places.directory.exists() else []
    return left


def on(places: Places, host: str, *command: str) -> str:
    """Return what a command prints on a host, over SSH and as the login user."""
    return run("ssh", "-F", places.ssh_configuration, host, *command).strip()


def reaches(places: Places, host: str, address: object) -> bool:
    dial = ["nsenter", "-t", str(lab.running_init(host, places)), "--net", "--", sys.executable]
    return subprocess.run([*dial, "-c", _DIAL, str(address)], check=False).returncode == 0


def test_hosts_run_their_own_systemd_and_let_the_login_user_become_root(places: Places) -> None:
    assert on(places, "near", "hostname") == "near"
    assert on(places, "near", "cat", "/proc/1/comm") == "systemd"
    assert on(places, "near", "id", "-un") == "operator"
    assert on(places, "near", "sudo", "-n", "id", "-un") == "root"


def test_every_unit_of_a_fresh_host_is_well(places: Places) -> None:
    waited = "sudo systemctl is-system-running --wait; systemctl --failed --no-legend --plain"
    assert on(places, "far", waited) == "running"


def test_a_host_that_still_refuses_its_user_is_not_ready(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "BOOT_SECONDS", 2)
    on(places, "near", "sudo touch /run/nologin")
    with pytest.raises(LabError, match=r"nobody can work on near after 2 s\nnear: .*[Cc]onnection"):
        lab.start(["near"], places)
    init = str(lab.running_init("near", places))
    run("nsenter", "-t", init, "--mount", "rm", "/run/nologin")
    lab.start(["near"], places)


def test_hosts_have_control_groups_of_their_own(places: Places) -> None:
    groups = [
        Path(f"/proc/{lab.running_init(name, places)}/cgroup").read_text(encoding="ascii")
        for name in ("near", "far")
    ]
    assert groups[0].replace("/near/", "/far/") == groups[1] != groups[0]


def test_hosts_differ_in_what_must_differ(places: Places) -> None:
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert on(places, "near", "cat", path) != on(places, "far", "cat", path)


def test_the_router_lets_the_inner_zone_out_and_nobody_in(places: Places) -> None:
    assert reaches(places, "near", FAR.address)
    assert not reaches(places, "far", NEAR.address)


def test_nothing_leads_out_of_the_lab(places: Places) -> None:
    routes = run(*places.into_controller_namespace, "ip", "-4", "route", "show", "default")
    assert routes == ""
    within = ["ip", "-n", places.router_namespace, "-4", "route", "show", "default"]
    assert run(*within) == ""


def test_zones_that_are_cut_apart_do_not_hear_each_other_until_they_are_healed(
    places: Places,
) -> None:
    lab.cut(("inner", "outer"), places)
    try:
        assert not reaches(places, "near", FAR.address)
        assert on(places, "far", "hostname") == "far", "the controller isn't cut off"
    finally:
        lab.heal(places)
    assert reaches(places, "near", FAR.address)


def test_up_again_leaves_running_hosts_alone(places: Places) -> None:
    inits = {name: found.init for name, found in find_processes(places).items()}
    lab.up(SMALL, places)
    assert {name: found.init for name, found in find_processes(places).items()} == inits


def test_a_host_keeps_its_disk_over_a_power_cut_and_loses_it_at_a_reset(places: Places) -> None:
    on(places, "near", "sudo", "touch", "/srv/kept")
    lab.kill(["near"], places)
    states = {name: state for name, _, _, state in lab.status(places)}
    assert states == {"near": "without power", "far": "running"}
    lab.start(["near"], places)
    assert on(places, "near", "ls", "/srv") == "kept"
    lab.reset(["near"], places)
    assert on(places, "near", "ls", "/srv") == ""


def test_a_small_disk_is_full_soon(places: Places) -> None:
    lab.limit_disk("far", "/srv", "1m", places)
    with pytest.raises(LabError, match="No space left"):
        on(places, "far", "sudo dd if=/dev/zero of=/srv/much bs=1M count=2 status=none")


def test_a_host_that_is_not_there_is_named(places: Places) -> None:
    with pytest.raises(LabError, match="there is no host nowhere; hosts: "):
        lab.kill(["nowhere"], places)


def namespace_is_there(places: Places) -> bool:
    return places.router_namespace in namespaces()


def host_is_started(places: Places) -> bool:
    return bool(find_processes(places))


def host_has_booted(places: Places) -> bool:
    return any(found.init for found in find_processes(places).values())


@pytest.mark.parametrize(
    "reached", [namespace_is_there, host_is_started, host_has_booted], ids=lambda f: f.__name__
)
def test_down_removes_what_an_interrupted_up_left(
    tmp_path: Path, reached: Callable[[Places], bool]
) -> None:
    own = Places(tmp_path / "lab", CACHE)
    program = tmp_path / "up.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from tests.unit.tools.test_hosts.labs import SMALL\n"
        "from tools.test_hosts import lab\nfrom tools.test_hosts.places import Places\n"
        "lab.up(SMALL, Places(Path(sys.argv[1]), Path(sys.argv[2])))\n"
    )
    command = [sys.executable, str(program), str(own.directory), str(CACHE)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as starting:
        deadline = time.monotonic() + 300
        while not reached(own):
            assert starting.poll() is None, "up ended by itself"
            assert time.monotonic() < deadline
        starting.send_signal(signal.SIGKILL)
    try:
        assert recorded_lab(own) is not None
    finally:
        lab.down(own)
    assert traces(own) == []
