"""Store records with sane defaults, so that a test shows only what is unusual about its own."""

from __future__ import annotations

import hashlib
from typing import Any

from node_agent.store.records import (
    ApprovalRecord,
    AuditRecord,
    CertificateRecord,
    CertificateStatus,
    CrlRecord,
    StatusChange,
)

__all__ = ["AUTHORITY", "approval_request", "audit", "certificate", "crl", "status"]

AUTHORITY = "a" * 32
DAY = 86400


def certificate(number: int = 1, **fields: Any) -> CertificateRecord:
    """Return a certificate whose serial, names and request id follow from ``number``."""
    digest = hashlib.sha256(b"%d" % number).digest()
    host = f"host-{number}.example.org"
    defaults: dict[str, Any] = {
        "authority_id": AUTHORITY,
        "serial": int.from_bytes(digest[:20], "big") >> 1,
        "der": digest * 18,
        "subject": f"CN={host},O=Example",
        "names": (host,),
        "fingerprint_sha256": digest,
        "not_before": 1_700_000_000,
        "not_after": 1_700_000_000 + 90 * DAY,
        "profile": "server",
        "issued_at": 1_700_000_000 + number,
        "requester": "alice",
        "origin": "spiffe://example.org/node/ra1",
        "request_id": digest[:16],
        "request_digest": digest,
    }
    return CertificateRecord(**{**defaults, **fields})


def audit(action: str = "ra.enroll", **fields: Any) -> AuditRecord:
    """Return an audit record of an allowed enrolment."""
    defaults: dict[str, Any] = {
        "at": 1_700_000_000.5,
        "action": action,
        "allowed": True,
        "chain": "alice via spiffe://example.org/node/ra1",
        "resources": ("/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest"),
        "reason": "granted by role ra",
        "detail": {"serial": "0a", "profile": "server"},
    }
    return AuditRecord(**{**defaults, **fields})


def status(
    number: int = 1, wanted: CertificateStatus = CertificateStatus.REVOKED, **fields: Any
) -> StatusChange:
    """Return a revocation (or another ``wanted`` status) of ``certificate(number)``."""
    record = certificate(number)
    defaults: dict[str, Any] = {
        "authority_id": record.authority_id,
        "serial": record.serial,
        "status": wanted,
        "at": 1_700_100_000,
        "reason": None if wanted is CertificateStatus.GOOD else 1,
    }
    return StatusChange(**{**defaults, **fields})


def crl(number: int = 1, **fields: Any) -> CrlRecord:
    """Return a full CRL with ``number``."""
    defaults: dict[str, Any] = {
        "authority_id": AUTHORITY,
        "number": number,
        "this_update": 1_700_000_000 + number,
        "next_update": 1_700_000_000 + number + DAY,
        "der": b"crl %d" % number,
    }
    return CrlRecord(**{**defaults, **fields})


def approval_request(number: int = 1, **fields: Any) -> ApprovalRecord:
    """Return a request for two approvals; ``certificate(number)`` is what it asks for."""
    wanted = certificate(number)
    defaults: dict[str, Any] = {
        "id": hashlib.sha256(b"approval %d" % number).digest(),
        "authority_id": wanted.authority_id,
        "profile": wanted.profile,
        "profile_digest": b"p" * 32,
        "request_id": wanted.request_id,
        "request_digest": wanted.request_digest,
        "origin": wanted.origin,
        "via": "",
        "tenant": "acme",
        "requester": wanted.requester,
        "csr": b"a request",
        "validity_seconds": None,
        "subject": wanted.subject,
        "names": wanted.names,
        "needed": 2,
        "opened_at": 1_700_000_000 + number,
        "expires_at": 1_700_000_000 + 7 * DAY,
    }
    return ApprovalRecord(**{**defaults, **fields})
