"""A taken-over VA with its valid key: it may renew its own signer, and nothing else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.errors import PolicyDenied
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import CERTIFY_SIGNER, CertifySignerRequest
from node_agent.wire import Status
from tests.support.hostile_peer import HostilePeer
from tests.support.hostile_requests import CSR, FOR_RAS_ONLY, OUT_OF_SCOPE, ask
from tests.support.processes import wait_until
from tests.support.scope_table import Try, tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.agents import Topology

    Denials = Callable[[], list[dict[str, Any]]]

DENIED = {
    **{what: case for what, case in OUT_OF_SCOPE.items() if what != "become an OCSP signer"},
    **FOR_RAS_ONLY,
}


@pytest.fixture(scope="module")
def va(topology: Topology) -> Iterator[HostilePeer]:
    topology.va.stop()
    with HostilePeer(topology, topology.va) as peer:
        wait_until(peer.is_linked, timeout_seconds=30, what="the CA dialled the hostile VA")
        yield peer


def test_its_own_signer_is_a_signer_and_nothing_more(va: HostilePeer) -> None:
    """What the CSR asks for (a server's name) doesn't come into the certificate."""
    answer = ask(va, CERTIFY_SIGNER, CertifySignerRequest(authority="issuing", csr=CSR))
    certificate = x509.load_der_x509_certificate(answer.chain[0])
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"www.example.org" not in certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("what", DENIED)
def test_everything_else_is_denied_and_logged(
    va: HostilePeer, denied_since: Denials, what: str
) -> None:
    operation, request = DENIED[what]
    with pytest.raises(PolicyDenied):
        ask(va, operation, request, requester="mallory")
    (entry,) = denied_since()
    assert entry["action"] == operation.method
    assert entry["chain"] == "mallory via va1"


@pytest.mark.parametrize(
    "case",
    [case for case in tries() if (case.operation, case.authority) != (CERTIFY_SIGNER, "issuing")],
    ids=str,
)
def test_no_verb_of_any_protocol_is_open_to_it(
    va: HostilePeer, denied_since: Denials, case: Try
) -> None:
    with pytest.raises(PolicyDenied):
        ask(va, case.operation, case.request(b"\1"), requester="mallory")
    assert [entry["chain"] for entry in denied_since()] == ["mallory via va1"]


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
