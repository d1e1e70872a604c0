"""The write of a batch that an upstream node published: idempotent, in order, in bulk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from node_agent.store.commands import insert_crl, put_position
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    CrlRecord,
    StatusChange,
)
from node_agent.store.schema import crls, pack_serial, source_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = ["ApplyPublished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPublished:
    """A batch of an upstream change log up to ``position``."""

    source: str
    position: int
    certificates: Sequence[CertificateRecord]
    statuses: Sequence[StatusChange]
    crls: Sequence[CrlRecord]
    entries: Sequence[ChangeEntry]

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
        for record in self.certificates:
            _apply_certificate(transaction, record)
        for change in self.statuses:
            _apply_status(transaction, change)
        for crl in self.crls:
            _apply_crl(transaction, crl)
        for entry in self.entries:
            if entry.position > applied:
                transaction.append_change(
                    entry.kind,
                    entry.authority_id,
                    entry.serial,
                    at=entry.at,
                    payload=entry.payload,
                )
        put_position(transaction, source_positions, self.source, self.position)
        return self.position


def _apply_certificate(transaction: Transaction, record: CertificateRecord) -> None:
    stored = transaction.certificate(record.authority_id, record.serial)
    if stored is None:
        transaction.add_certificate(record, 0, from_upstream=True)
        return
    if record.der and not stored.has_content:
        transaction.fill_certificate(stored, record)
    if record.status is not CertificateStatus.GOOD:
        _apply_status(transaction, _status_of(record))


def _apply_status(transaction: Transaction, change: StatusChange) -> None:
    stored = transaction.certificate(change.authority_id, change.serial)
    if stored is None:
        transaction.add_certificate(_status_only(change), 0, from_upstream=True)
    elif stored.status not in (CertificateStatus.REVOKED, change.status):
        transaction.set_status(stored, change)


def _apply_crl(transaction: Transaction, crl: CrlRecord) -> None:
    newest = transaction.connection.scalar(
        sa.select(sa.func.max(crls.c.number)).where(
            crls.c.authority_id == crl.authority_id,
            crls.c.shard == crl.shard,
            crls.c.is_delta == int(crl.base_number is not None),
        )
    )
    if newest is None or newest < crl.number:
        insert_crl(transaction, crl)


def _status_of(record: CertificateRecord) -> StatusChange:
    return StatusChange(
        authority_id=record.authority_id,
        serial=record.serial,
        status=record.status,
        at=record.revoked_at or record.issued_at,
        reason=record.reason,
        invalidity_at=record.invalidity_at,
    )


def _status_only(change: StatusChange) -> CertificateRecord:
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
