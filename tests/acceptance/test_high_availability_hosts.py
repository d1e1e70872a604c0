"""What the hosts do whose work the others depend on: firewalls, watchdog, workers, modules."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.acceptance.deployment import ROOT
from tests.acceptance.dial import met_by_neighbour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

    from tests.acceptance.deployment import Deployment

PEER, SSH, POSTGRESQL = 7443, 22, 5432
DEADLINE_SECONDS = 60
# Between two looks.
LOOK_SECONDS = 0.1
DROP_IN = "/run/systemd/system/peersys.service.d/watchdog.conf"
SHORT_WATCHDOG = f"""\
mkdir -p $(dirname {DROP_IN}) && printf '[Service]\\nWatchdogSec=3\\n' > {DROP_IN} \
&& systemctl daemon-reload && systemctl restart peersys
"""
SHIPPED_WATCHDOG = f"rm {DROP_IN} && systemctl daemon-reload && systemctl restart peersys"


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {DEADLINE_SECONDS} s"
        time.sleep(LOOK_SECONDS)


@contextmanager
def without_firewall(host: Host) -> Iterator[None]:
    host.check_output("nft delete table inet peersys")
    try:
        yield
    finally:
        host.check_output("systemctl restart peersys-firewall")


def listens(host: Host, port: int) -> bool:
    return bool(host.check_output(f"ss -Hltn sport = :{port}"))


def test_a_ca_host_lets_nobody_in_but_ssh_whatever_listens_there(deployment: Deployment) -> None:
    ca1 = deployment.host("ca1")
    ca1.check_output(
        f"systemd-run --quiet --collect --unit=test-listener python3 -m http.server {PEER}"
    )
    try:
        until(lambda: listens(ca1, PEER))
        assert met_by_neighbour(deployment, "ca1", SSH) == "open"
        assert met_by_neighbour(deployment, "ca1", PEER) == "silent"
        # It is the host's own firewall that says nothing.
        with without_firewall(ca1):
            assert met_by_neighbour(deployment, "ca1", PEER) == "open"
        assert met_by_neighbour(deployment, "ca1", PEER) == "silent"
    finally:
        ca1.check_output("systemctl stop test-listener")


def test_a_database_host_lets_in_ca_nodes_alone(deployment: Deployment) -> None:
    db1 = deployment.host("db1")
    assert listens(db1, POSTGRESQL)
    for name in deployment.authorities:
        connected = deployment.host(name).check_output(
            f"ss -Htn state established '( dport = :{POSTGRESQL} )'"
        )
        assert connected, f"{name} has no connection to its store"
    assert met_by_neighbour(deployment, "db1", SSH) == "open"
    assert met_by_neighbour(deployment, "db1", POSTGRESQL) == "silent"


def test_an_agent_that_stands_still_is_ended_and_started_again(deployment: Deployment) -> None:
    va1 = deployment.host("va1")

    def shown(name: str) -> int:
        return int(va1.check_output(f"systemctl show --property={name} --value peersys"))

    va1.check_output(SHORT_WATCHDOG)
    try:
        restarts, process = shown("NRestarts"), shown("MainPID")
        began = time.monotonic()
        va1.check_output(f"kill -STOP {process}")
        until(lambda: shown("NRestarts") == restarts + 1 and shown("MainPID") not in (0, process))
        print(f"an agent that stood still was started again after {time.monotonic() - began:.1f} s")
        until(lambda: deployment.agent("va1", "status").get("health") == "ok")
    finally:
        va1.check_output(SHIPPED_WATCHDOG)
    until(lambda: deployment.agent("va1", "status").get("health") == "ok")


def test_a_va_with_two_workers_serves_with_both(deployment: Deployment) -> None:
    workers = deployment.agent("va2", "status")["status_workers"]
    assert [worker["state"] for worker in workers] == ["up", "up"]
    assert len({worker["pid"] for worker in workers}) == 2


def test_an_ra_runs_on_the_other_debian_release(deployment: Deployment) -> None:
    releases = {
        name: deployment.host(name).check_output(". /etc/os-release && echo $VERSION_CODENAME")
        for name in ("ra1", "ra2")
    }
    assert releases == {"ra1": "bookworm", "ra2": "trixie"}
    assert deployment.agent("ra2", "status")["health"] == "ok"


def test_modules_that_need_a_host_foresee_do_and_repeat_nothing(deployment: Deployment) -> None:
    command = deployment.play("site.yml")
    command[-1] = str(ROOT / "tests/acceptance/modules/main.yml")
    status, said = deployment.run_playbook(command, f"--extra-vars=source={ROOT}")
    assert status == 0, said
    refused = [int(count) for count in re.findall(r"ignored=(\d+)", said)]
    assert sum(refused) == 9, said  # two, five and two things that a host must refuse
