"""The write that brings a restored store up to what the field has seen: all of it or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.store.commands import raise_crl_number
from node_agent.store.published import status_only_record
from node_agent.store.records import CertificateStatus, ChangeKind
from node_agent.store.schema import pack_serial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from node_agent.store.records import AuditRecord, CertificateRecord, StatusChange
    from node_agent.store.transaction import Needs, Transaction

__all__ = ["RecoverStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverStore:
    """``position``: the change log goes on above it. ``crl_numbers``: by authority id and shard,
    CRLs are numbered above these. ``certificates`` and ``statuses``, each with its change-log
    payload, are what others have of our own work.
    """

    position: int
    crl_numbers: Mapping[tuple[str, int], int]
    certificates: Sequence[tuple[CertificateRecord, bytes]]
    statuses: Sequence[tuple[StatusChange, bytes]]
    audit: AuditRecord

    @property
    def weight(self) -> int:
        """Return about how many rows are written."""
        return 2 * (len(self.certificates) + len(self.statuses)) + len(self.crl_numbers) + 1

    def needs(self, needs: Needs) -> None:
        """Look at every certificate that is spoken of."""
        for record, _ in self.certificates:
            needs.certificates.add((record.authority_id, pack_serial(record.serial)))
        for change, _ in self.statuses:
            needs.certificates.add((change.authority_id, pack_serial(change.serial)))

    def stage(self, transaction: Transaction) -> int:
        """Stage it; return the newest position."""
        transaction.position = max(transaction.position, self.position)
        for (authority_id, shard), number in self.crl_numbers.items():
            raise_crl_number(transaction, authority_id, shard, number)
        for record, payload in self.certificates:
            _add(transaction, record, payload)
        for change, payload in self.statuses:
            _set(transaction, change, payload)
        transaction.append_audit(self.audit)
        return transaction.position


def _add(transaction: Transaction, record: CertificateRecord, payload: bytes) -> None:
    if transaction.certificate(record.authority_id, record.serial) is None:
        transaction.log_certificate(record, payload)


def _set(transaction: Transaction, change: StatusChange, payload: bytes) -> None:
    stored = transaction.certificate(change.authority_id, change.serial)
    if stored is None:
        transaction.add_certificate(status_only_record(change), transaction.position + 1)
        stored = transaction.certificate(change.authority_id, change.serial)
        assert stored is not None
    elif stored.status in (CertificateStatus.REVOKED, change.status):
        return
    transaction.set_status(stored, change)
    position = transaction.append_change(
        ChangeKind.STATUS, change.authority_id, change.serial, at=change.at, payload=payload
    )
    transaction.note_status(change.authority_id, stored.crl_shard, position)
