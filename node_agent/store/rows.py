"""Records to rows and back: the only place that knows the order of a table's columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    ChangeKind,
    CrlContent,
    CrlRecord,
    KeyRecord,
    ObjectRecord,
)
from node_agent.store.schema import certificates, pack_serial, unpack_serial

__all__ = [
    "CERTIFICATE_COLUMNS",
    "REVOKED_COLUMNS",
    "Row",
    "certificate_record",
    "certificate_row",
    "change_entry",
    "crl_record",
    "key_record",
    "object_record",
    "position_of",
    "search_names",
]

Row = Sequence[Any]

CERTIFICATE_COLUMNS: Final = tuple(column.name for column in certificates.columns)
REVOKED_COLUMNS: Final = (
    *("serial", "status", "revoked_at", "reason", "invalidity_at", "status_changed_at"),
)

# A common name in lower-cased RFC 4514 text: up to an unescaped comma or plus sign.
_COMMON_NAME = re.compile(r"(?:^|[,+])cn=((?:\\.|[^,+\\])*)")

_names_decoder = msgspec.json.Decoder(tuple[str, ...])


def certificate_row(
    record: CertificateRecord, number: int, position: int, *, with_request: bool = True
) -> tuple[Any, ...]:
    """Return ``record`` in the order of CERTIFICATE_COLUMNS. Raises StoreError for its serial."""
    held = record.status is not CertificateStatus.GOOD
    return (
        number,
        record.authority_id,
        pack_serial(record.serial),
        record.status.value,
        record.revoked_at,
        record.reason,
        record.invalidity_at,
        (record.revoked_at or record.issued_at) if held else None,
        record.not_before,
        record.not_after,
        record.issued_at,
        position,
        record.profile,
        record.requester,
        record.origin,
        record.via,
        record.tenant,
        (record.request_id or None) if with_request else None,
        record.request_digest,
        record.subject,
        msgspec.json.encode(record.names).decode(),
        record.fingerprint_sha256,
        record.der,
        record.crl_shard,
    )


def certificate_record(row: Row) -> CertificateRecord:
    """Return a row in the order of CERTIFICATE_COLUMNS as a record."""
    return CertificateRecord(
        authority_id=row[1],
        serial=unpack_serial(row[2]),
        status=CertificateStatus(row[3]),
        revoked_at=row[4],
        reason=row[5],
        invalidity_at=row[6],
        not_before=row[8],
        not_after=row[9],
        issued_at=row[10],
        profile=row[12],
        requester=row[13],
        origin=row[14],
        via=row[15],
        tenant=row[16],
        request_id=row[17] or b"",
        request_digest=row[18],
        subject=row[19],
        names=_names_decoder.decode(row[20]),
        fingerprint_sha256=row[21],
        der=row[22],
        crl_shard=row[23],
    )


def position_of(row: Row) -> int:
    """Return the change-log position at which a row's certificate was recorded."""
    position: int = row[11]
    return position


def search_names(record: CertificateRecord) -> set[str]:
    """Return what a search by name looks at: subject, common names and SANs in lower case."""
    names = {name.lower() for name in record.names}
    subject = record.subject.lower()
    if subject:
        names.add(subject)
        names.update(_COMMON_NAME.findall(subject))
    return names


def change_entry(row: Row) -> ChangeEntry:
    """Return a row of the change log, in the order of its columns."""
    position, kind, authority_id, serial, at, payload = row
    return ChangeEntry(
        position=position,
        kind=ChangeKind(kind),
        authority_id=authority_id,
        serial=None if serial is None else unpack_serial(serial),
        at=at,
        payload=payload,
    )


def crl_record(row: Row) -> CrlRecord:
    """Return a row of the CRLs, in the order of its columns."""
    authority_id, shard, _, number, base_number, this_update, next_update, der = row[:8]
    sha256, octets = row[8:10]
    return CrlRecord(
        authority_id=authority_id,
        shard=shard,
        number=number,
        base_number=base_number,
        this_update=this_update,
        next_update=next_update,
        der=der,
        content=None if sha256 is None else CrlContent(sha256=bytes(sha256), octets=octets),
    )


def object_record(row: Row) -> ObjectRecord:
    """Return a row of the objects, in the order of its columns."""
    _, kind, name, spec, state, generation, updated_at = row
    return ObjectRecord(
        kind=kind, name=name, spec=spec, state=state, generation=generation, updated_at=updated_at
    )


def key_record(row: Row) -> KeyRecord:
    """Return a row of the keys, in the order of its columns."""
    node, token, label, key_kind, public_der, private_part, created_at = row
    return KeyRecord(
        token=token,
        label=label,
        key_kind=key_kind,
        public_der=public_der,
        private_part=private_part,
        created_at=created_at,
        node=node,
    )
