"""What a hostile node asks for: requests that no RA of the tests' topology is granted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node_agent.peers.operations import (
    CERTIFY_SIGNER,
    ENROLL,
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
    REVOKE,
    SEARCH,
    STATUS,
    CertifySignerRequest,
    ContentRequest,
    DigestsRequest,
    EnrollRequest,
    EntriesRequest,
    Operation,
    PositionRequest,
    PublishedEntry,
    PublishRequest,
    RecordsRequest,
    RepairedEntry,
    RepairRequest,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
)

if TYPE_CHECKING:
    from tests.support.hostile_peer import HostilePeer

__all__ = ["CSR", "ENROL", "FOR_RAS_ONLY", "OUT_OF_SCOPE", "ask", "csr_for"]


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
SERIAL = b"\x01"

OUT_OF_SCOPE: dict[str, tuple[Operation[Any, Any], Any]] = {
    "enrol from the root": (ENROLL, EnrollRequest(**{**ENROL, "authority": "root"})),
    "enrol an authenticator": (ENROLL, EnrollRequest(**{**ENROL, "authority": "management"})),
    "enrol from no CA": (ENROLL, EnrollRequest(**{**ENROL, "authority": "nowhere"})),
    "enrol by another profile": (ENROLL, EnrollRequest(**{**ENROL, "profile": "other"})),
    "enrol by a built-in profile": (
        ENROLL,
        EnrollRequest(**{**ENROL, "profile": "builtin.issuing"}),
    ),
    "enrol over EST": (ENROLL, EnrollRequest(**ENROL, protocol="est")),
    "enrol over ACME": (ENROLL, EnrollRequest(**ENROL, protocol="acme")),
    "enrol over CMP": (ENROLL, EnrollRequest(**ENROL, protocol="cmp")),
    "enrol over nothing": (ENROLL, EnrollRequest(**ENROL, protocol="")),
    "widen a name": (ENROLL, EnrollRequest(**{**ENROL, "authority": "**"})),
    "climb out of a name": (ENROLL, EnrollRequest(**{**ENROL, "profile": "server/../other"})),
    "revoke an authenticator": (REVOKE, RevokeRequest(authority="management", serial=SERIAL)),
    "revoke a CA": (REVOKE, RevokeRequest(authority="root", serial=SERIAL, reason=1)),
    "revoke over CMP": (
        REVOKE,
        RevokeRequest(authority="issuing", serial=SERIAL, protocol="cmp"),
    ),
    "look at an authenticator": (STATUS, StatusRequest(authority="management", serial=SERIAL)),
    "list the authenticators": (SEARCH, SearchRequest(authority="management")),
    "list what the root signed": (SEARCH, SearchRequest(authority="root")),
    "list over ACME": (SEARCH, SearchRequest(authority="issuing", protocol="acme")),
    "become an OCSP signer": (CERTIFY_SIGNER, CertifySignerRequest(authority="issuing", csr=CSR)),
    "become the root's signer": (CERTIFY_SIGNER, CertifySignerRequest(authority="root", csr=CSR)),
    "publish a status to the CA": (
        PUBLISH,
        PublishRequest(
            source="spiffe://pki.example.org/node/ca1",
            after=0,
            position=1,
            authorities=("issuing",),
            entries=(
                PublishedEntry(
                    position=1,
                    kind="status",
                    authority_id="0" * 32,
                    serial=SERIAL,
                    at=1,
                    payload=b"",
                ),
            ),
        ),
    ),
    "send a CRL to the CA": (
        PUBLISH_CONTENT,
        ContentRequest(
            authority="issuing",
            authority_id="0" * 32,
            number=1 << 40,
            is_delta=False,
            sha256=b"\0" * 32,
            octets=1 << 29,
            offset=0,
        ),
    ),
    "compare the CA's certificates": (
        PUBLISH_DIGESTS,
        DigestsRequest(
            authority="issuing",
            authority_id="0" * 32,
            content=("status",),
            prefixes=("",),
            begins=True,
            recomputes=True,
        ),
    ),
    "list the CA's certificates by digest": (
        PUBLISH_ENTRIES,
        EntriesRequest(authority="issuing", authority_id="0" * 32, buckets=tuple(range(1024))),
    ),
    "read back the CA's certificates": (
        PUBLISH_RECORDS,
        RecordsRequest(authority="issuing", authority_id="0" * 32, serials=(SERIAL,)),
    ),
    "put the CA's certificates right": (
        PUBLISH_REPAIR,
        RepairRequest(
            authority="issuing",
            authority_id="0" * 32,
            content=("status",),
            entries=(RepairedEntry(serial=SERIAL, certificate=b"", status=b""),),
            surplus=(SERIAL,),
        ),
    ),
    "ask where a reader is": (
        PUBLISH_POSITION,
        PositionRequest(source="spiffe://pki.example.org/node/ca1", authorities=("issuing",)),
    ),
}
"""By what is tried: an operation and its request, denied to an RA."""

FOR_RAS_ONLY: dict[str, tuple[Operation[Any, Any], Any]] = {
    "enrol": (ENROLL, EnrollRequest(**ENROL)),
    "revoke": (REVOKE, RevokeRequest(authority="issuing", serial=SERIAL)),
    "ask": (STATUS, StatusRequest(authority="issuing", serial=SERIAL)),
    "list": (SEARCH, SearchRequest(authority="issuing")),
}
"""What an RA may do, and a VA may not."""


def ask(peer: HostilePeer, operation: Operation[Any, Any], request: Any, **options: Any) -> Any:
    """Send a request as a well-behaved node would; raise what the CA answered."""
    calling = peer.caller.call(
        operation, request, peers=[peer.upstream], timeout_seconds=15, **options
    )
    return peer.run(calling)
