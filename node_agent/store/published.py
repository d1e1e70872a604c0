"""The write of a batch that an upstream node published: idempotent, in order, in bulk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from node_agent.store.commands import insert_crl, put_position
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    ChangeKind,
    CrlRecord,
    StatusChange,
)
from node_agent.store.schema import change_log, crls, pack_serial, source_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = ["ApplyPublished", "News", "apply_certificate", "status_of", "status_only_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPublished:
    """A batch of an upstream change log up to ``position``."""

    source: str
    position: int
    certificates: Sequence[CertificateRecord]
    statuses: Sequence[StatusChange]
    crls: Sequence[CrlRecord]
    entries: Sequence[ChangeEntry]
    receipt: bytes = b""

    @property
    def weight(self) -> int:
        """Return about how many rows the batch writes."""
        parts = (self.certificates, self.statuses, self.crls, self.entries)
        return max(1, sum(len(part) for part in parts))

    def needs(self, needs: Needs) -> None:
        """Look at every certificate that the batch speaks of."""
        for record in self.certificates:
            needs.certificates.add((record.authority_id, pack_serial(record.serial)))
        for change in self.statuses:
            needs.certificates.add((change.authority_id, pack_serial(change.serial)))

    def stage(self, transaction: Transaction) -> int:
        """Stage what is new in the batch; return the applied position."""
        applied: int = (
            transaction.connection.scalar(
                sa.select(source_positions.c.position).where(
                    source_positions.c.source == self.source
                )
            )
            or 0
        )
        if self.position <= applied:
            return applied
        said = News()
        for record in self.certificates:
            apply_certificate(transaction, record, said)
        for change in self.statuses:
            _apply_status(transaction, change, said)
        for crl in self.crls:
            _apply_crl(transaction, crl, said)
        for entry in self.entries:
            if entry.position > applied and said.has(transaction, entry):
                transaction.append_change(
                    entry.kind,
                    entry.authority_id,
                    entry.serial,
                    at=entry.at,
                    payload=entry.payload,
                )
        put_position(
            transaction, source_positions, self.source, self.position, receipt=self.receipt
        )
        return self.position


@dataclass(slots=True)
class News:
    """What of a batch wasn't known here: only that goes into our own change log, so that what comes
    by two ways goes on once.
    """

    certificates: set[tuple[str, int]] = field(default_factory=set)
    statuses: set[tuple[str, int]] = field(default_factory=set)
    crls: set[str] = field(default_factory=set)

    def has(self, transaction: Transaction, entry: ChangeEntry) -> bool:
        """Tell whether ``entry`` says something new."""
        match entry.kind:
            case ChangeKind.CERTIFICATE:
                return (entry.authority_id, entry.serial) in self.certificates
            case ChangeKind.STATUS:
                return (entry.authority_id, entry.serial) in self.statuses
            case ChangeKind.CRL:
                return entry.authority_id in self.crls
            case ChangeKind.AUTHORITY:
                return not _is_recorded(transaction, entry)


def _is_recorded(transaction: Transaction, entry: ChangeEntry) -> bool:
    table = change_log.c
    same = sa.select(table.position).where(
        table.authority_id == entry.authority_id,
        table.kind == entry.kind.value,
        table.payload == entry.payload,
    )
    first = same.order_by(table.position).limit(1)
    return transaction.connection.scalar(first) is not None


def apply_certificate(transaction: Transaction, record: CertificateRecord, said: News) -> None:
    """Stage a published certificate: a new one, content that lacked, a status that goes forward."""
    stored = transaction.certificate(record.authority_id, record.serial)
    key = (record.authority_id, record.serial)
    if stored is None:
        transaction.add_certificate(record, 0, from_upstream=True)
        said.certificates.add(key)
        said.statuses.add(key)
        return
    if record.der and not stored.has_content:
        transaction.fill_certificate(stored, record)
        said.certificates.add(key)
    if record.status is not CertificateStatus.GOOD:
        _apply_status(transaction, status_of(record), said)


def _apply_status(transaction: Transaction, change: StatusChange, said: News) -> None:
    stored = transaction.certificate(change.authority_id, change.serial)
    if stored is None:
        transaction.add_certificate(status_only_record(change), 0, from_upstream=True)
    elif stored.status in (CertificateStatus.REVOKED, change.status):
        return
    elif change.status is CertificateStatus.GOOD and change.at < stored.status_changed_at:
        # It came late, by another way than the hold: that hold is the newer word.
        return
    else:
        transaction.set_status(stored, change)
    said.statuses.add((change.authority_id, change.serial))


def _apply_crl(transaction: Transaction, crl: CrlRecord, said: News) -> None:
    newest = transaction.connection.scalar(
        sa.select(sa.func.max(crls.c.number)).where(
            crls.c.authority_id == crl.authority_id,
            crls.c.shard == crl.shard,
            crls.c.is_delta == int(crl.base_number is not None),
        )
    )
    if newest is None or newest < crl.number:
        insert_crl(transaction, crl)
        said.crls.add(crl.authority_id)


def status_of(record: CertificateRecord) -> StatusChange:
    """Return the change that leads to the record's status."""
    return StatusChange(
        authority_id=record.authority_id,
        serial=record.serial,
        status=record.status,
        at=record.revoked_at or record.issued_at,
        reason=record.reason,
        invalidity_at=record.invalidity_at,
    )


def status_only_record(change: StatusChange) -> CertificateRecord:
    """Return the row of a certificate of which only a status is known."""
    is_good = change.status is CertificateStatus.GOOD
    return CertificateRecord(
        authority_id=change.authority_id,
        serial=change.serial,
        der=b"",
        subject="",
        names=(),
        fingerprint_sha256=b"",
        not_before=0,
        not_after=0,
        profile="",
        issued_at=change.at,
        status=change.status,
        revoked_at=None if is_good else change.at,
        reason=None if is_good else change.reason,
        invalidity_at=None if is_good else change.invalidity_at,
    )
