"""A CSR, an enrolment that the tests' topologies grant, and how a taken-over RA or VA asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from node_agent.peers.operations import Operation
    from tests.support.hostile_peer import HostilePeer

__all__ = ["CSR", "ENROL", "ask", "csr_for"]


def csr_for(name: str) -> bytes:
    """Return the DER of a CSR for ``name`` with a new key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    key = ec.generate_private_key(ec.SECP256R1())
    csr = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


CSR = csr_for("www.example.org")
ENROL: dict[str, Any] = {"authority": "issuing", "profile": "server", "csr": CSR}


def ask(peer: HostilePeer, operation: Operation[Any, Any], request: Any, **options: Any) -> Any:
    """Send a request as a well-behaved node would; raise what the CA answered."""
    calling = peer.caller.call(
        operation, request, peers=[peer.upstream], timeout_seconds=15, **options
    )
    return peer.run(calling)
