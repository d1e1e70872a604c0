"""A thousand tenants, each with a Management CA and a role of its own, on one CA node."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.agents import allow, server_profile
from tests.support.chains import tenant_rules
from tests.support.node_process import Agent
from tests.support.pki import ThrowawayAuthority, certificate_pem

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)

TENANTS = 1000
START_SECONDS = 5.0
MEMORY_KIB_PER_TENANT = 40.0
CHANGE_SECONDS = 1.0


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Yield a CA node whose authenticator is certified, so that trust is in force."""
    node = Agent(tmp_path_factory.mktemp("thousand"), "ca1")
    node.start()
    try:
        node.admin.apply(
            authenticators=[{"name": "peer"}],
            certificate_profiles=[server_profile()],
            certification_authorities=[
                {"name": "management", "kind": "management", "subject": "CN=Management CA"},
                {"name": "root", "kind": "root", "subject": "CN=Root"},
                {
                    "name": "issuing",
                    "kind": "issuing",
                    "issuer": "root",
                    "subject": "CN=Issuing",
                    "profiles": ["server"],
                },
            ],
        )
        node.certify(node)
        yield node
    finally:
        node.stop()


def tenant(number: int) -> dict[str, Any]:
    """Return a tenant's objects."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = ThrowawayAuthority(f"Management CA of {number}", key=key)
    crl = authority.crl().public_bytes(serialization.Encoding.PEM).decode()
    domain = f"tenant{number}.example"
    return {
        "peer_issuers": {
            "name": f"tenant{number}",
            "trust_domain": domain,
            "trust_anchors": [certificate_pem(authority.certificate)],
            "crls": [crl],
        },
        "peer_roles": {
            "name": f"tenant{number}",
            "members": [f"spiffe://{domain}/node/ra1", f"spiffe://{domain}/node/ra2"],
            "rules": allow(*tenant_rules("issuing")),
            "max_issued_certificates": 1000,
            "max_valid_certificates": 10000,
        },
    }


def memory_kib(agent: Agent) -> int:
    """Return what the agent and its workers keep in memory for themselves (USS)."""
    return sum(_private_kib(pid) for pid in _family(agent.running.pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        yield from _family(int(child))


def _private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def cpu_seconds(agent: Agent) -> float:
    """Return the CPU time of the agent's process so far: what a busy machine doesn't change."""
    fields = Path(f"/proc/{agent.running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def restart(agent: Agent) -> tuple[float, float]:
    """Return the seconds from the start of the process to its first answer, on the clock and of
    CPU.
    """
    agent.stop()
    begun = time.monotonic()
    agent.start()
    return time.monotonic() - begun, cpu_seconds(agent)


@pytest.fixture(scope="module")
def figures(agent: Agent) -> dict[str, float]:
    """Return what a thousand tenants cost."""
    _, empty = restart(agent)
    before = memory_kib(agent)
    tenants = [tenant(number) for number in range(TENANTS)]
    begun = cpu_seconds(agent)
    agent.admin.apply(
        **{kind: [item[kind] for item in tenants] for kind in ("peer_issuers", "peer_roles")}
    )
    applied = cpu_seconds(agent) - begun
    clock, started = restart(agent)
    after = memory_kib(agent)
    another = tenant(TENANTS)
    begun = cpu_seconds(agent)
    for kind, spec in another.items():
        agent.admin.put(f"/v1/objects/{kind}/{spec['name']}", spec)
    found = {
        "apply_cpu_seconds": applied,
        "empty_start_cpu_seconds": empty,
        "start_cpu_seconds": started,
        "start_seconds": clock,
        "kib_per_tenant": (after - before) / TENANTS,
        "add_cpu_seconds": cpu_seconds(agent) - begun,
    }
    print(found)
    return found


def test_a_node_with_a_thousand_tenants_starts_in_time(figures: dict[str, float]) -> None:
    assert figures["start_cpu_seconds"] < START_SECONDS


def test_an_idle_tenant_costs_little_memory(figures: dict[str, float]) -> None:
    assert figures["kib_per_tenant"] < MEMORY_KIB_PER_TENANT


def test_one_tenant_more_is_added_at_once(figures: dict[str, float]) -> None:
    assert figures["add_cpu_seconds"] < CHANGE_SECONDS


def test_each_tenant_is_known_and_decided_for(agent: Agent, figures: dict[str, float]) -> None:
    for number in (0, 500, TENANTS):
        question = {
            "identity": f"spiffe://tenant{number}.example/node/ra1",
            "operation": "ra.enroll",
            "authority": "issuing",
            "profile": "server",
            "protocol": "rest",
        }
        assert agent.admin.post("/v1/access/explain", question)["trace"]
