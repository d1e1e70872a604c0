"""What a host looks like after the shipped playbook, beyond what the playbook verify says."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.deployment import AUTHORITY, PLAIN, PROFILE, ROOT
from tests.acceptance.reader import Reader, commands_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.acceptance.deployment import Deployment
    from tests.acceptance.enrolment_load import EnrolmentLoad
    from tests.acceptance.requester import Requester

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


def test_no_secret_is_in_the_journal(deployment: Deployment) -> None:
    secrets = {
        str(own[variable])
        for own in deployment.variables.values()
        for variable in ("node_passphrase", "verification_token")
        if variable in own
    }
    assert secrets
    for name in deployment.nodes:
        journal = deployment.host(name).check_output("journalctl --no-pager --output=cat")
        assert not [secret for secret in secrets if secret in journal], name


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
    done = subprocess.run(
        [*deployment.play("verify.yml"), "--extra-vars", "verification_wait_seconds=2"],
        cwd=ROOT,
        env=PLAIN,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


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


@pytest.mark.timeout(600)
def test_pages_work_as_written_to_the_last_command(deployment: Deployment, tmp_path: Path) -> None:
    """The last of these tests: what the pages end with leaves nothing on the hosts."""
    pages = ("docs/howto/three-tiers.md", "docs/howto/ansible-own-hosts.md")
    first, second = (commands_of(page) for page in pages)
    in_readme = [text for text in commands_of("README.md") if "inventories/mine" in text]
    assert in_readme == [text for text in first if "ansible-inventory" not in text]
    reader = Reader(tmp_path, deployment)
    for text in first:
        said = reader.types(text)
        if "site.yml" in text:
            assert set(re.findall(r"changed=(\d+)", said)) == {"0"}, said
    reader.keep_vault_password()
    for text in second:
        reader.types(text)
    for name in deployment.nodes:
        host = deployment.host(name)
        for path in ("/opt/peersys", "/etc/peersys", "/var/lib/peersys"):
            assert not host.file(path).exists, f"{name}:{path}"
        assert not host.service("peersys").exists, name
        assert "inet peersys" not in host.check_output("nft list tables"), name
