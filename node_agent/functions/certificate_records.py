"""From a signed certificate to the rows and payloads that are stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.functions.change_payloads import certificate_payload, encode
from node_agent.store.records import AuditRecord, CertificateRecord

if TYPE_CHECKING:
    from node_agent.pki.issue import IssuedCertificate
    from node_agent.store.records import Approval

__all__ = ["Provenance", "approved_by", "audit_detail", "issued_record", "issued_row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a certificate's request came from: ``requester via origin via …``."""

    requester: str
    origin: str
    via: str
    tenant: str = ""
    request_id: bytes
    request_digest: bytes


def issued_record(
    issued: IssuedCertificate, *, issued_at: int, provenance: Provenance
) -> CertificateRecord:
    """Return the row of a certificate that was just signed."""
    return CertificateRecord(
        authority_id=issued.authority_id,
        serial=issued.serial,
        der=issued.der,
        subject=issued.subject,
        names=issued.names,
        fingerprint_sha256=issued.fingerprint_sha256,
        not_before=issued.not_before,
        not_after=issued.not_after,
        profile=issued.profile,
        crl_shard=issued.crl_shard,
        issued_at=issued_at,
        requester=provenance.requester,
        origin=provenance.origin,
        via=provenance.via,
        tenant=provenance.tenant,
        request_id=provenance.request_id,
        request_digest=provenance.request_digest,
    )


def issued_row(
    issued: IssuedCertificate, *, issued_at: int, provenance: Provenance
) -> tuple[CertificateRecord, bytes]:
    """Return the row and its change-log payload."""
    record = issued_record(issued, issued_at=issued_at, provenance=provenance)
    return record, encode(certificate_payload(record))


def audit_detail(record: CertificateRecord) -> dict[str, str]:
    """Return what the audit log says of an issued certificate: enough to find it, no more."""
    return {
        "authority_id": record.authority_id,
        "serial": f"{record.serial:x}",
        "subject": record.subject,
        "profile": record.profile,
    }


def approved_by(approval: Approval | None) -> dict[str, str]:
    """Return what the audit log says of the approvals that an issuance rests on."""
    if approval is None:
        return {}
    return {"approval": approval.request.hex(), "approvers": " ".join(approval.approvers)}


def with_detail(audit: AuditRecord, detail: dict[str, str]) -> AuditRecord:
    """Return ``audit`` with further detail."""
    return AuditRecord(
        at=audit.at,
        action=audit.action,
        allowed=audit.allowed,
        chain=audit.chain,
        resources=audit.resources,
        reason=audit.reason,
        detail={**audit.detail, **detail},
    )
