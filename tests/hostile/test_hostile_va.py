"""A taken-over VA with its valid key: it may renew its own signer, and nothing else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.net import RawAnswer
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import (
    CERTIFY_SIGNER,
    PUBLISH_POSITION,
    CertifySignerRequest,
    PositionAnswer,
)
from node_agent.wire import Status
from tests.support.admin import AdminError
from tests.support.hostile_peer import HostilePeer
from tests.support.hostile_requests import CSR, ask
from tests.support.lying_va import LIES, LyingVa, as_handler
from tests.support.processes import wait_until
from tests.support.scope_table import METHODS, OK, Scope
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.net import IncomingCall
    from tests.support.agents import Topology

    Denials = Callable[[], list[dict[str, Any]]]

SCOPE = Scope({CERTIFY_SIGNER.method: OK})


@pytest.fixture(scope="module")
def va(topology: Topology) -> Iterator[HostilePeer]:
    topology.va.stop()
    with HostilePeer(topology, topology.va) as peer:
        wait_until(peer.is_linked, timeout_seconds=30, what="the CA dialled the hostile VA")
        wait_until(lambda: is_linked(topology), timeout_seconds=30, what="the CA says so")
        yield peer


@pytest.fixture
def liar(topology: Topology, va: HostilePeer) -> Iterator[LyingVa]:
    """Yield what the VA answers, once its CA has published to it and is told what it likes."""
    lying = LyingVa()
    va.handler = as_handler(va, lying)
    wait_until(lambda: published(topology)["state"] == "up", what="the CA publishes")
    yield lying
    va.handler = denying


async def denying(call: IncomingCall) -> RawAnswer:
    return RawAnswer(Status.DENIED, b"")


def is_linked(topology: Topology) -> bool:
    peers = topology.ca.admin.get("/v1/peers")
    return any(peer["connector"] == "va1" and peer["state"] == "up" for peer in peers)


def published(topology: Topology) -> dict[str, Any]:
    publishers = topology.ca.admin.get("/v1/status")["publishers"]
    return next(publisher for publisher in publishers if publisher["name"] == "va1")


def compare_each(topology: Topology, seconds: int) -> None:
    spec = {"name": "va1", "peer": topology.va.identity, "authorities": ["root", "issuing"]}
    topology.ca.admin.apply(publishers=[{**spec, "verify_seconds": seconds}])


@pytest.mark.parametrize("what", LIES)
def test_what_it_answers_to_a_comparison_is_held_against_the_question(
    topology: Topology, liar: LyingVa, what: str
) -> None:
    liar.lies = LIES[what]
    with pytest.raises(AdminError) as refused:
        topology.ca.admin.post("/v1/publishers/va1/verification", {"repair": True})
    assert (refused.value.status, refused.value.problem["type"]) == (
        502,
        "urn:peersys:problem:bad-answer",
    )


def test_no_answer_ends_the_ca_or_its_comparisons(topology: Topology, liar: LyingVa) -> None:
    """The node's own comparisons go on, whatever they are answered."""
    before = topology.ca.admin.get("/v1/node")["started_at"]
    compare_each(topology, 1)
    try:
        for what in ("short digests", "more entries, but none", "entries of other leaves"):
            liar.lies = LIES[what]
            (operation,) = liar.lies
            asked = liar.asked.count(operation.method)
            wait_until(
                lambda asked=asked, method=operation.method: liar.asked.count(method) >= asked + 2,
                timeout_seconds=20,
                what=f"the CA compares again after {what}",
            )
    finally:
        compare_each(topology, 3600)
    assert topology.ca.admin.get("/v1/node")["started_at"] == before


@pytest.mark.parametrize("position", [-1, 1 << 63, (1 << 64) - 1])
def test_no_position_that_it_claims_ends_the_ca(
    topology: Topology, liar: LyingVa, position: int
) -> None:
    before = topology.ca.admin.get("/v1/node")["started_at"]
    liar.lies = {PUBLISH_POSITION: lambda request: PositionAnswer(position=position)}
    with pytest.raises(AdminError) as refused:
        topology.ca.admin.post("/v1/publishers/va1/verification", {"repair": True})
    assert refused.value.status == 502
    compare_each(topology, 7200)
    wait_until(lambda: published(topology)["last_error"] is not None, what="it is refused")
    liar.lies = {}
    compare_each(topology, 3600)
    wait_until(lambda: published(topology)["state"] == "up", what="the CA publishes again")
    assert topology.ca.admin.get("/v1/node")["started_at"] == before


def test_its_own_signer_is_a_signer_and_nothing_more(va: HostilePeer) -> None:
    """What the CSR asks for (a server's name) doesn't come into the certificate."""
    answer = ask(va, CERTIFY_SIGNER, CertifySignerRequest(authority="issuing", csr=CSR))
    certificate = x509.load_der_x509_certificate(answer.chain[0])
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"www.example.org" not in certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("verb", METHODS)
def test_no_verb_of_any_protocol_is_open_to_it(
    va: HostilePeer, topology: Topology, verb: str
) -> None:
    trial = Trial(va, topology.ca, SCOPE, chain="mallory via va1")
    trial.check(verb)


@pytest.mark.parametrize("method", ["node.apply", "objects.put", "token.export", "ca.sign", "x"])
def test_there_is_no_operation_that_manages_a_ca(
    va: HostilePeer, denied_since: Denials, method: str
) -> None:
    request_id = secrets.token_bytes(16)
    message = sign_request(
        va.holder,
        method=method,
        request_id=request_id,
        audience=va.upstream.uri,
        requester="",
        payload=b"\x80",
    ).message
    assert va.send(method, message, request_id=request_id).status == Status.DENIED
    (entry,) = denied_since()
    assert (entry["action"], entry["detail"]["method"]) == ("unknown", method)
