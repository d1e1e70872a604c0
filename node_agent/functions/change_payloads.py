"""What the entries of the change log carry: written by the CA, read by publishers and VAs.

Each kind of ``store.records.ChangeKind`` has one struct here, encoded as a MessagePack array, so
that a VA can apply an entry without asking back. Fields are only ever added at the end, with a
default.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from node_agent.clock import EpochSeconds  # noqa: TC001  # msgspec resolves the annotation
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    CrlContent,
    CrlRecord,
    StatusChange,
)

__all__ = [
    "AuthorityPayload",
    "CertificatePayload",
    "CrlPayload",
    "StatusPayload",
    "certificate_payload",
    "certificate_record",
    "crl_in_pieces",
    "crl_payload",
    "crl_record",
    "decode",
    "encode",
    "status_change",
    "status_only",
    "status_payload",
]


# What a store can hold in a column: anything else would fail there, behind all checks.
_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Stored = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
# The numbers of RFC 5280 section 5.3.1. An answer writes them in one octet.
_ReasonNumber = Annotated[int, msgspec.Meta(ge=0, le=10)]


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    pass


class AuthorityPayload(_Payload, frozen=True):
    """A CA and its certificate chain, DER, the CA's own certificate first and the root last."""

    name: str
    chain: tuple[bytes, ...]


class CertificatePayload(_Payload, frozen=True):
    """An issued certificate. ``der`` is empty where only the status is published."""

    der: bytes
    subject: str
    names: tuple[str, ...]
    fingerprint_sha256: bytes
    not_before: EpochSeconds
    not_after: EpochSeconds
    profile: str
    issued_at: EpochSeconds


class StatusPayload(_Payload, frozen=True):
    """A status change; ``reason`` is an RFC 5280 CRLReason number.

    ``invalidity_at`` may be no time at all: older versions recorded whatever was asked for. It is
    kept as it came, so that rows compare as equal, and left out of CRLs.
    """

    status: str
    at: EpochSeconds
    reason: _ReasonNumber | None
    invalidity_at: _Stored | None


class CrlPayload(_Payload, frozen=True):
    """A full or (with ``base_number``) delta CRL.

    A long one has an empty ``der``; ``sha256`` and ``octets`` are those of the list, whose pieces
    are sent ahead (``crl_transfer.py``).
    """

    number: _Number
    this_update: EpochSeconds
    next_update: EpochSeconds
    der: bytes
    base_number: _Number | None
    sha256: bytes = b""
    octets: _Number = 0
    shard: _Number = 0


encode = msgspec.msgpack.Encoder().encode
"""Encode any payload of this module."""

_DECODERS: dict[str, msgspec.msgpack.Decoder[_Payload]] = {
    "authority": msgspec.msgpack.Decoder(AuthorityPayload),
    "certificate": msgspec.msgpack.Decoder(CertificatePayload),
    "status": msgspec.msgpack.Decoder(StatusPayload),
    "crl": msgspec.msgpack.Decoder(CrlPayload),
}


def decode(kind: str, payload: bytes) -> _Payload:
    """Return the payload of an entry of ``kind``.

    Raises one of ``peers.codec.UNREADABLE`` on bytes that aren't such a payload, KeyError on an
    unknown kind.
    """
    return _DECODERS[kind].decode(payload)


def certificate_payload(record: CertificateRecord) -> CertificatePayload:
    """Return what is published of a freshly issued certificate."""
    return CertificatePayload(
        record.der,
        record.subject,
        record.names,
        record.fingerprint_sha256,
        record.not_before,
        record.not_after,
        record.profile,
        record.issued_at,
    )


def certificate_record(
    authority: str, serial: int, payload: CertificatePayload
) -> CertificateRecord:
    """Return the row that a VA keeps of a published certificate."""
    return CertificateRecord(
        authority_id=authority,
        serial=serial,
        der=payload.der,
        subject=payload.subject,
        names=payload.names,
        fingerprint_sha256=payload.fingerprint_sha256,
        not_before=payload.not_before,
        not_after=payload.not_after,
        profile=payload.profile,
        issued_at=payload.issued_at,
    )


def status_only(payload: CertificatePayload) -> CertificatePayload:
    """Return the payload without what a VA doesn't need to answer for a status."""
    return CertificatePayload(
        b"",
        "",
        (),
        payload.fingerprint_sha256,
        payload.not_before,
        payload.not_after,
        "",
        payload.issued_at,
    )


def status_payload(change: StatusChange) -> StatusPayload:
    """Return what is published of a status change."""
    return StatusPayload(change.status.value, change.at, change.reason, change.invalidity_at)


def status_change(authority: str, serial: int, payload: StatusPayload) -> StatusChange:
    """Return the status change that a VA applies. Raises ValueError for an unknown status."""
    return StatusChange(
        authority_id=authority,
        serial=serial,
        status=CertificateStatus(payload.status),
        at=payload.at,
        reason=payload.reason,
        invalidity_at=payload.invalidity_at,
    )


def crl_payload(record: CrlRecord) -> CrlPayload:
    """Return what is published of a CRL."""
    payload = CrlPayload(
        record.number,
        record.this_update,
        record.next_update,
        record.der,
        record.base_number,
        shard=record.shard,
    )
    return payload if record.content is None else crl_in_pieces(payload, record.content)


def crl_in_pieces(payload: CrlPayload, content: CrlContent) -> CrlPayload:
    """Return the payload with a name for the list in place of the list."""
    return msgspec.structs.replace(payload, der=b"", sha256=content.sha256, octets=content.octets)


def crl_record(authority: str, payload: CrlPayload) -> CrlRecord:
    """Return the row that a VA keeps of a published CRL."""
    return CrlRecord(
        authority_id=authority,
        number=payload.number,
        this_update=payload.this_update,
        next_update=payload.next_update,
        der=payload.der,
        base_number=payload.base_number,
        shard=payload.shard,
        content=CrlContent(sha256=payload.sha256, octets=payload.octets)
        if payload.octets
        else None,
    )
