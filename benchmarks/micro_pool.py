"""Steps of the pool and of the policy: what is planned after every event, decided per request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec, RequesterSpec
from node_agent.policy import (
    AccessRequest,
    Requester,
    RoleSet,
    decide,
    parse_requester,
    parse_role,
)
from node_agent.pool.plan import PoolState, SlotPhase, SlotView, plan
from node_agent.pool.settings import PoolSettings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POOL_STEPS"]

RESOURCES = ("/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest")


def _plan(links: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        settings = PoolSettings(max_connections=links, max_parallel_requests=links * 10)
        slots = tuple(
            SlotView(slot_id=number, phase=SlotPhase.OPEN, generation=0, since=0.0)
            for number in range(links)
        )
        state = PoolState(slots=slots, queued=3)
        return lambda: plan(state, settings, 10.0)

    return prepare


def _decide() -> Callable[[], object]:
    rules = tuple(AccessRule(resource=resource) for resource in (*RESOURCES, "/peer/incoming"))
    peers = [
        PeerIdentity(
            node=NodeIdentity("pki.example.org", f"ra{number}"),
            issuer="CN=Management CA",
            serial=number,
            fingerprint_sha256=f"{number:064x}",
            spki_sha256=f"{number:064x}",
        )
        for number in range(2)
    ]
    members = tuple(peer.node.uri for peer in peers)
    roles = RoleSet(
        [
            parse_role(PeerRoleSpec(name="registration", members=members, rules=rules)),
            parse_requester(RequesterSpec(name="tester", token_sha256="0" * 64, rules=rules)),
        ]
    )
    request = AccessRequest("ra.enroll", RESOURCES, (Requester("tester"), *peers))
    assert decide(request, roles).allowed
    return lambda: decide(request, roles)


POOL_STEPS = {
    "pool: plan with 4 links": _plan(4),
    "pool: plan with 50 links": _plan(50),
    "policy: decide an enrolment, requester via two nodes": _decide,
}
