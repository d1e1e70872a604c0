"""A stolen CA connector identity: it dials an RA as the CA does, and may do what the RA grants the
CA, which is to tell it of revocations. That it can answer in the CA's place follows from having its
key; nothing at the RA can tell.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from node_agent.errors import PolicyDenied, RequestRefused
from node_agent.functions.change_payloads import CrlPayload, encode
from node_agent.functions.known_authorities import load_authority
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import (
    CERTIFY_SIGNER,
    PUBLISH,
    PUBLISH_POSITION,
    CertificateAnswer,
    PositionRequest,
    PublishedEntry,
    PublishRequest,
)
from node_agent.wire import Status
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.lying_va import LyingVa, as_handler
from tests.support.processes import wait_until
from tests.support.scope_table import FOR_NO_CA, METHODS, Scope
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agents import Topology

pytestmark = pytest.mark.timeout(120)

KINDS = ("certificate", "status", "authority2", "object")
TAKEN = frozenset({Status.OK, Status.INVALID, Status.CONFLICT, Status.NOT_FOUND})
"""How an RA answers what it does take from its CA, as far as that can be read."""

SCOPE = Scope(
    dict.fromkeys((PUBLISH.method, PUBLISH_POSITION.method), TAKEN),
    authorities=frozenset({"issuing", "other", "management", "root", "root-issuing", "nowhere"}),
    variants=frozenset({"", "of nothing", FOR_NO_CA, "authority", "crl"}),
)
"""An RA takes revocation lists of any CA, and serves nothing else."""


@pytest.fixture(scope="module")
def thief(topology: Topology) -> Iterator[HostileNode]:
    holder = certified_holder(topology.ca, topology.ca.identity)
    topology.ca.stop()
    with HostileNode(holder) as node:
        node.believe(topology.ra.identity)
        node.dial(topology.ra.listen["peer"], topology.ra.identity)
        yield node


def published(topology: Topology, kind: str, authority: str = "issuing") -> PublishRequest:
    entry = PublishedEntry(
        position=1, kind=kind, authority_id="0" * 32, serial=b"\1", at=1, payload=b""
    )
    return PublishRequest(
        source=topology.ca.identity,
        after=0,
        position=1,
        authorities=(authority,),
        entries=(entry,),
    )


def denials(topology: Topology, after: int) -> list[dict[str, Any]]:
    entries = topology.ra.admin.get(f"/v1/audit?after={after}&limit=10000")
    return [entry for entry in entries if not entry["allowed"]]


@pytest.fixture
def last(topology: Topology) -> int:
    entries = topology.ra.admin.get("/v1/audit?limit=10000")
    return int(entries[-1]["sequence"]) if entries else 0


def test_a_forged_revocation_list_is_not_taken_and_logged_once(
    topology: Topology, thief: HostileNode, last: int
) -> None:
    """It has the CA node's identity and not the Management CA's key. The same is written once a
    minute: nothing before this brings a list.
    """
    (management,) = thief.holder.current.trust_anchors
    entry = forged_list(management)
    request = replace(published(topology, "crl", "management"), entries=(entry,))
    for _ in range(5):
        with pytest.raises(RequestRefused, match="not a valid 'crl' entry"):
            thief.ask(PUBLISH, request, of=topology.ra.identity)
    entries = topology.ra.admin.get(f"/v1/audit?after={last}&limit=10000")
    (record,) = [entry for entry in entries if entry["action"] == "publish.batch"]
    assert record["chain"] == "ca1"
    assert record["detail"]["outcome"] == "request-refused"
    assert "not a valid 'crl' entry" in record["detail"]["why"]
    assert topology.ra.admin.get("/v1/health")["status"] == "ok"


@pytest.mark.parametrize("verb", METHODS)
def test_no_verb_of_any_protocol_is_open_to_it(
    topology: Topology, thief: HostileNode, verb: str
) -> None:
    trial = Trial(thief, topology.ra, SCOPE, chain="tester via ca1", requester="tester")
    trial.check(verb)


@pytest.mark.parametrize("kind", KINDS)
def test_it_publishes_nothing_but_revocation_lists(
    topology: Topology, thief: HostileNode, last: int, kind: str
) -> None:
    with pytest.raises(PolicyDenied):
        thief.ask(PUBLISH, published(topology, kind), of=topology.ra.identity)
    assert [entry["action"] for entry in denials(topology, last)] == ["publish.batch"]


def forged_list(management: x509.Certificate) -> PublishedEntry:
    """Return a CRL of the Management CA that is right in everything but who signed it."""
    now = datetime.now(tz=UTC).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(management.subject)
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .add_extension(x509.CRLNumber(1000), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority = load_authority("management", [management.public_bytes(Encoding.DER)], "")
    payload = CrlPayload(
        1000,
        int(now.timestamp()),
        int(now.timestamp()) + 86400,
        crl.public_bytes(Encoding.DER),
        None,
    )
    return PublishedEntry(
        position=1,
        kind="crl",
        authority_id=authority.authority_id,
        serial=None,
        at=int(now.timestamp()),
        payload=encode(payload),
    )


@pytest.mark.parametrize("method", ["node.apply", "objects.put", "token.export", "ra.issue", "x"])
def test_there_is_no_operation_that_manages_an_ra(
    topology: Topology, thief: HostileNode, last: int, method: str
) -> None:
    request_id = secrets.token_bytes(16)
    message = sign_request(
        thief.holder,
        method=method,
        request_id=request_id,
        audience=topology.ra.identity,
        requester="local-uid-0",
        payload=b"\x80",
    ).message
    answer = thief.send(method, message, request_id=request_id, to=topology.ra.identity)
    assert answer.status == Status.DENIED
    (entry,) = denials(topology, last)
    assert entry["detail"]["method"] == method


def test_positions_of_other_sources_are_not_told(
    topology: Topology, thief: HostileNode, last: int
) -> None:
    request = PositionRequest(source="spiffe://pki.example.org/node/ca9", authorities=("issuing",))
    with pytest.raises(PolicyDenied):
        thief.ask(PUBLISH_POSITION, request, of=topology.ra.identity)


def test_the_log_is_whole_after_all_of_it(topology: Topology, thief: HostileNode) -> None:
    assert topology.ra.admin.post("/v1/audit/verify", {})["ok"]


@pytest.mark.parametrize(
    "chain", [(), (b"",), (b"0\x00",)], ids=["no chain", "nothing", "no certificate"]
)
def test_no_answer_about_a_signer_ends_its_va(
    thief: HostileNode, topology: Topology, chain: tuple[bytes, ...]
) -> None:
    """A VA believes only what its CA signed, and asks again after anything else."""
    thief.believe(topology.va.identity)
    lies = {CERTIFY_SIGNER: lambda request: CertificateAnswer(chain=chain)}
    liar = LyingVa(lies)
    thief.handler = as_handler(thief, liar)
    if not thief.is_linked(topology.va.identity):
        thief.dial(topology.va.listen["peer"], topology.va.identity)
    before = topology.va.admin.get("/v1/node")["started_at"]
    topology.va.admin.apply(signers=[{"name": "root", "authority": "root"}])
    wait_until(
        lambda: liar.asked.count(CERTIFY_SIGNER.method) >= 2,
        timeout_seconds=20,
        what="the VA asks again",
    )
    assert topology.va.admin.get("/v1/node")["started_at"] == before
    states = {
        signer["name"]: signer["state"] for signer in topology.va.admin.get("/v1/status")["signers"]
    }
    assert states == {"issuing": "active", "root": "waiting"}
