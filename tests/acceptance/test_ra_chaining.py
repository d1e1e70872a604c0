"""A tenant's RA and a CA dial a proxy between them, which is enough for all that an RA does."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from tests.acceptance.deployment import AUTHORITY, PROFILE, Deployment
from tests.acceptance.status import issuer_of, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.enrolment_load import EnrolmentLoad
    from tests.acceptance.requester import Requester

CA, PROXY, RA, VA = "ca1", "proxy1", "ra-alpha", "va1"
# What may be dialled on the hosts that dial.
OPEN = {CA: {22}, RA: {22, 8443}}
PUBLISHED_SECONDS = 10
WITNESS = """\
table inet witness {{
    chain inbound {{
        type filter hook input priority -300;
        iif "lo" return
        tcp dport {{ {ports} }} tcp flags & (syn | ack) == syn counter return comment "allowed"
        tcp flags & (syn | ack) == syn counter comment "dialled"
    }}
}}
"""


@pytest.fixture
def witnesses(deployment: Deployment) -> Iterator[Callable[[str], dict[str, int]]]:
    """Count on the hosts that dial who tries to open a connection to them, before any firewall."""
    for name, ports in OPEN.items():
        table = WITNESS.format(ports=", ".join(map(str, sorted(ports))))
        deployment.host(name).check_output("printf %%s %s | nft -f -", table)

    def seen(name: str) -> dict[str, int]:
        listed = json.loads(deployment.host(name).check_output("nft -j list table inet witness"))
        rules = [entry["rule"] for entry in listed["nftables"] if "rule" in entry]
        return {
            rule["comment"]: part["counter"]["packets"]
            for rule in rules
            for part in rule["expr"]
            if "counter" in part
        }

    yield seen
    for name in OPEN:
        deployment.host(name).check_output("nft delete table inet witness")


def test_an_ra_behind_the_proxy_enrols_revokes_and_searches(
    deployment: Deployment, requester: Requester
) -> None:
    name = f"chained-{time.monotonic_ns()}.example.org"
    deadline = time.monotonic() + 30
    enrolled = requester.enrol(name, authority=AUTHORITY, profile=PROFILE, deadline=deadline)
    assert [one["serial"] for one in requester.issued(AUTHORITY, name)] == [enrolled.serial]
    va = f"http://{deployment.variables[VA]['ansible_host']}"
    issuer = issuer_of(va, AUTHORITY)
    until(lambda: status_of(va, enrolled.serial, issuer) is OCSPCertStatus.GOOD)
    requester.revoke(AUTHORITY, enrolled.serial)
    until(lambda: status_of(va, enrolled.serial, issuer) is OCSPCertStatus.REVOKED)
    entries = deployment.agent(CA, "audit", "list", "--limit", "50")
    ours = [entry for entry in entries if entry["detail"].get("serial") == enrolled.serial]
    assert {entry["action"] for entry in ours} == {"ra.enroll", "ra.revoke"}
    assert {entry["chain"] for entry in ours} == {f"verification via {RA} via {PROXY}"}


def test_nobody_dials_the_ca_or_the_ra_though_all_links_are_made_anew(
    deployment: Deployment,
    witnesses: Callable[[str], dict[str, int]],
    load: Callable[[], EnrolmentLoad],
) -> None:
    for name in (PROXY, CA, RA):
        deployment.host(name).check_output("systemctl restart peersys")
    with load() as traffic:
        traffic.wait_for(30, seconds=60)
        for name, ports in OPEN.items():
            dialled = connections(deployment, name)
            assert dialled, f"{name} has no link"
            assert all(local in ports or remote == 7443 for local, remote in dialled), dialled
    for name, ports in OPEN.items():
        counted = witnesses(name)
        # The witness sees what there is: Ansible's and these tests' own SSH.
        assert counted["allowed"] > 0, name
        assert counted["dialled"] == 0, name
        assert listening(deployment, name) == ports, name


def listening(deployment: Deployment, name: str) -> set[int]:
    sockets = deployment.host(name).socket.get_listening_sockets()
    return {int(one.rpartition(":")[2]) for one in sockets if one.startswith("tcp")}


def connections(deployment: Deployment, name: str) -> list[tuple[int, int]]:
    """Return local and remote port of each established connection."""
    listed = deployment.host(name).check_output("ss -Htn state established")
    return [
        (int(local), int(remote))
        for local, remote in re.findall(r":(\d+)\s+\S+:(\d+)\s*$", listed, re.MULTILINE)
    ]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {PUBLISHED_SECONDS} s"
        time.sleep(0.05)
