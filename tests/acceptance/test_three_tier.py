"""What a host looks like after the shipped playbook, beyond what the playbook verify says."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.deployment import AUTHORITY, PROFILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.deployment import Deployment
    from tests.acceptance.enrolment_load import EnrolmentLoad
    from tests.acceptance.requester import Requester

AGENT_FILES = "/etc/peersys /var/lib/peersys /opt/peersys/bin/"
# From 0 (safe) to 10, as systemd counts.
MAX_EXPOSURE = 1.5


def test_agents_run_as_a_user_who_owns_nothing_else(deployment: Deployment) -> None:
    for name in deployment.nodes:
        host = deployment.host(name)
        service = host.service("peersys")
        assert service.is_running, name
        assert service.is_enabled, name
        agent = host.process.get(user="peersys", ppid=1)
        assert "run --config /etc/peersys/node.yaml" in agent.args
        assert host.user("peersys").shell.endswith("nologin")


def test_units_are_hardened(deployment: Deployment) -> None:
    for name in deployment.nodes:
        said = deployment.host(name).check_output("systemd-analyze security --no-pager peersys")
        exposure = re.search(r"Overall exposure level for peersys\.service: ([0-9.]+)", said)
        assert exposure is not None, said
        assert float(exposure[1]) <= MAX_EXPOSURE, name


def test_ca_hosts_listen_for_nobody_but_ssh(deployment: Deployment) -> None:
    for name in deployment.authorities:
        sockets = deployment.host(name).socket.get_listening_sockets()
        ports = {socket.rpartition(":")[2] for socket in sockets if socket.startswith("tcp")}
        assert ports == {"22"}, name


def test_secrets_are_kept_from_other_users_of_the_host(deployment: Deployment) -> None:
    """As the login user, over Paramiko: what isn't root sees nothing of the agent's."""
    for name in deployment.nodes:
        host = deployment.paramiko_host(name)
        assert host.check_output("id -un") == "operator"
        for path in ("/etc/peersys/credentials", "/var/lib/peersys"):
            assert host.run(f"ls {path}").rc != 0, f"{name}:{path}"
        socket = host.file("/run/peersys/admin.sock")
        assert socket.mode == 0o660
        assert socket.user == "peersys"


@pytest.fixture
def secrets(deployment: Deployment) -> list[str]:
    """Return the secrets of the inventory."""
    found = {
        str(own[variable])
        for own in deployment.variables.values()
        for variable in ("node_passphrase", "verification_token")
        if variable in own
    }
    # A passphrase for each node, and one token.
    assert len(found) == len(deployment.nodes) + 1
    return sorted(found)


def test_no_secret_is_in_the_journal(deployment: Deployment, secrets: list[str]) -> None:
    for name in deployment.nodes:
        journal = deployment.host(name).check_output("journalctl --no-pager --output=cat")
        # It is the journal of a host that Ansible logged in to, and of an agent.
        assert "sudo" in journal, name
        assert "Started peersys.service" in journal, name
        assert not [secret for secret in secrets if secret in journal], name


def test_no_secret_is_on_a_disk_in_clear(deployment: Deployment, secrets: list[str]) -> None:
    """What is looked for is handed in over standard input: sudo logs what it runs."""
    for name in deployment.nodes:
        known = deployment.variables[name]["node_trust_domain"]
        assert "/etc/peersys/node.yaml" in files_with(deployment, name, [known])
        assert files_with(deployment, name, secrets) == [], name


def files_with(deployment: Deployment, name: str, words: list[str]) -> list[str]:
    """Return the files of the agent in which one of the words stands, compressed ones apart."""
    command = f"grep --recursive --text --files-with-matches --fixed-strings --file=- {AGENT_FILES}"
    done = deployment.as_root(name, command, given="\n".join(words) + "\n")
    # 1: in none of them.
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.split()


def test_agents_come_back_after_a_crash(deployment: Deployment, requester: Requester) -> None:
    for name in deployment.nodes:
        deployment.host(name).check_output("systemctl kill --kill-whom=main --signal=KILL peersys")
    enrolled = requester.enrol(
        "crash.example.org",
        authority=AUTHORITY,
        profile=PROFILE,
        deadline=time.monotonic() + 30,
    )
    assert enrolled.serial
    print(f"certificate {enrolled.serial} after every agent crashed: {enrolled.attempts} attempts")


def test_requesters_in_parallel_get_a_certificate_each(
    load: Callable[[], EnrolmentLoad], requester: Requester
) -> None:
    with load() as traffic:
        traffic.wait_for(50, seconds=60)
    serials = {enrolled.serial for enrolled in traffic.done}
    issued = requester.issued(AUTHORITY, f"{traffic.label}.example.org")
    assert len(issued) == len(traffic.done)
    assert {certificate["serial"] for certificate in issued} == serials


def failed_verify(deployment: Deployment) -> str:
    """Return what the playbook verify says, which must fail."""
    impatient = "--extra-vars=verification_wait_seconds=2"
    status, said = deployment.run_playbook(
        deployment.play("verify.yml"), impatient, timeout_seconds=120
    )
    assert status != 0, said
    return " ".join(said.split())


def test_verify_names_both_hosts_of_a_port_that_must_be_closed(deployment: Deployment) -> None:
    va1 = deployment.host("va1")
    va1.check_output("nft delete table inet peersys")
    try:
        said = failed_verify(deployment)
    finally:
        va1.check_output("systemctl restart peersys-firewall")
    for source, port in (
        ("client1", "peer"),
        ("ra1", "peer"),
        ("ra1", "status"),
        ("ca1", "status"),
    ):
        assert f"{source} reaches the {port} port of va1 (" in said


def test_verify_names_both_ends_of_a_link_that_is_down(deployment: Deployment) -> None:
    va1 = deployment.host("va1")
    # The agent runs, and hears nothing.
    va1.check_output("nft insert rule inet peersys inbound tcp dport 7443 drop")
    va1.check_output("systemctl restart peersys")
    try:
        said = failed_verify(deployment)
    finally:
        va1.check_output("systemctl restart peersys-firewall")
    assert "ca1 has no link with va1" in said
    assert "va1 has no link with ca1" in said
