"""Every attacker against the protocol itself: what breaks it, what only waits, and what goes on
when role or certificate are taken away. The CA dials RA, VA and proxy; a tenant's RA dials a node
that passes requests on, and who stole a CA connector dials an RA.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from node_agent.wire.codes import Code
from node_agent.wire.frames import Open, Ping
from tests.support.agents import Topology, allow
from tests.support.chains import tenant_rules
from tests.support.frames import make
from tests.support.hostile_node import certified_holder
from tests.support.openssl import make_csr
from tests.support.processes import wait_until
from tests.support.wire_attacks import WIRE_ATTACKS, Foothold, stall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.raw_peer import RawPeer

pytestmark = pytest.mark.timeout(120)

RULES = {
    "RA": tenant_rules("issuing"),
    "VA": ("/signer/issuing/renew", "/ca/issuing"),
    "proxy": ("/peer/relay", *tenant_rules("issuing")),
    "tenant": tenant_rules("issuing"),
}
ATTACKERS = (*RULES, "stolen CA connector")


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    nodes = Topology(tmp_path_factory.mktemp("wire"))
    for agent in nodes.agents:
        agent.module = "tests.support.short_patience"
    with nodes as found:
        yield found


@pytest.fixture(scope="module", params=ATTACKERS)
def attacker(topology: Topology, request: pytest.FixtureRequest) -> Foothold:
    kind: str = request.param
    if kind not in RULES:
        holder = certified_holder(topology.ca, topology.ca.identity)
        return Foothold(topology.ra, holder, "upstream", dials=True)
    victim = topology.ra if kind == "tenant" else topology.ca
    identity = f"spiffe://pki.example.org/node/hostile-{kind.lower()}"
    role = {"name": kind.lower(), "members": [identity]}
    victim.admin.apply(peer_roles=[{**role, "rules": allow("/peer/incoming", *RULES[kind])}])
    holder = certified_holder(topology.ca, identity)
    return Foothold(victim, holder, kind.lower(), dials=kind == "tenant")


@pytest.mark.parametrize("attack", WIRE_ATTACKS)
def test_what_breaks_the_protocol_ends_the_link_and_is_logged(
    attacker: Foothold, attack: str
) -> None:
    commit, code = WIRE_ATTACKS[attack]
    with attacker.link() as peer:
        commit(peer)
        ended = peer.end()
    assert ended is None or ended.code == code
    attacker.wait_audited(code.name.lower())


def test_who_talks_and_never_reads_is_given_up_and_logged(attacker: Foothold) -> None:
    """It has an answer to read, gives no sign of having done so, and goes on talking."""
    reason = Code.WRITE_STALLED.name.lower()

    def is_given_up(peer: RawPeer) -> bool:
        peer.send(make(Ping))
        return bool(attacker.audited(reason))

    assert not attacker.audited(reason)
    with attacker.link() as peer:
        peer.send(make(Open, stream=peer.own(), method="x"))
        wait_until(lambda: is_given_up(peer), timeout_seconds=20, what="it is given up")
    (entry,) = attacker.audited(reason)
    assert not entry["allowed"]


def test_an_honest_requester_is_served_beside_requests_that_stall(
    topology: Topology, attacker: Foothold, tmp_path: Path
) -> None:
    with attacker.link() as peer:
        for number in range(40):
            stall(peer, number)
        status, answer = topology.rest().enroll(make_csr(tmp_path))
    assert status == 201, answer


def test_a_role_taken_away_in_mid_stream_ends_the_link_within_a_second(
    topology: Topology, attacker: Foothold
) -> None:
    victim = attacker.victim
    role = victim.admin.get(attacker.role_path)["spec"]
    denying = [*role["rules"], {"resource": "/peer/incoming", "effect": "deny"}]
    try:
        ended_by(attacker, lambda: victim.admin.put(attacker.role_path, {**role, "rules": denying}))
        attacker.wait_audited("untrusted")
    finally:
        victim.admin.put(attacker.role_path, role)
    topology.wait_healthy()


def test_a_revoked_authenticator_in_mid_stream_ends_it_within_a_second(
    topology: Topology, attacker: Foothold
) -> None:
    """The last of each attacker: with this key it gets nowhere afterwards."""
    path = f"/v1/certificates/management/{attacker.serial}/revocation"
    ended_by(attacker, lambda: topology.ca.admin.post(path, {"reason": "keyCompromise"}))
    attacker.wait_audited("untrusted")
    assert attacker.victim.admin.post("/v1/audit/verify", {})["ok"]


def ended_by(attacker: Foothold, act: Callable[[], object]) -> None:
    """See a link with a request on its way end for want of trust, within a second of ``act``."""
    with attacker.link(timeout_seconds=5) as peer:
        wait_until(attacker.is_linked, what="the link is up")
        stall(peer)
        act()
        done = time.monotonic()
        ended = peer.end()
        assert time.monotonic() - done < 1
    assert ended is not None
    assert ended.code == Code.UNTRUSTED
