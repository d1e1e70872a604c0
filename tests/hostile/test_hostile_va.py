"""A taken-over VA with its valid key: it may renew its own signer, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.errors import PolicyDenied
from node_agent.peers.operations import CERTIFY_SIGNER, CertifySignerRequest
from tests.support.hostile_peer import HostilePeer
from tests.support.hostile_requests import CSR, FOR_RAS_ONLY, OUT_OF_SCOPE, ask
from tests.support.processes import wait_until

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
