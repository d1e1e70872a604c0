"""The write that makes a VA's rows what their CA says they are (docs/why/sync.md).

Other than a published status, which only ever moves forward, a repair may take back what the row
says: a row that was tampered with, or comes from an old copy, has no history worth keeping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from node_agent.store.published import News, apply_certificate, status_of
from node_agent.store.records import CertificateStatus
from node_agent.store.schema import certificate_names, certificates, pack_serial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.records import AuditRecord, CertificateRecord, ChangeEntry
    from node_agent.store.transaction import Needs, Transaction

__all__ = ["ApplyRepair"]

_CONTENT: Final = (
    *("not_before", "not_after", "issued_at", "profile", "subject", "fingerprint_sha256", "der"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRepair:
    """``records`` as they must be; ``removed`` are serials that the CA never issued. Without
    ``takes_back`` no row says less afterwards than before. What of ``entries`` is news goes into
    our own change log.
    """

    authority_id: str
    records: Sequence[CertificateRecord]
    removed: Sequence[int]
    audit: AuditRecord
    entries: Sequence[ChangeEntry] = ()
    takes_back: bool = True

    @property
    def weight(self) -> int:
        """Return about how many rows are written."""
        return 2 * (len(self.records) + len(self.removed)) + 1

    def needs(self, needs: Needs) -> None:
        """Look at every certificate that is spoken of."""
        for serial in (*(record.serial for record in self.records), *self.removed):
            needs.certificates.add((self.authority_id, pack_serial(serial)))

    def stage(self, transaction: Transaction) -> int:
        """Stage additions; change and remove what is there. Return how many rows are right now."""
        said = News()
        repaired = sum(self._repair(transaction, record, said) for record in self.records)
        for serial in self.removed if self.takes_back else ():
            stored = transaction.certificate(self.authority_id, serial)
            if stored is not None:
                _remove(transaction, stored.number)
            repaired += 1
        for entry in self.entries:
            if said.has(transaction, entry):
                transaction.append_change(
                    entry.kind, entry.authority_id, entry.serial, at=entry.at, payload=entry.payload
                )
        transaction.append_audit(self.audit)
        return repaired

    def _repair(self, transaction: Transaction, record: CertificateRecord, said: News) -> bool:
        stored = transaction.certificate(self.authority_id, record.serial)
        if stored is None:
            apply_certificate(transaction, record, said)
            return True
        if not self.takes_back and _severity(record.status) < _severity(stored.status):
            return False
        values = {name: getattr(record, name) for name in _CONTENT}
        if not record.der:
            # Without the certificate nothing is known of it but this.
            values = {"fingerprint_sha256": record.fingerprint_sha256, "der": b""}
        if record.der or self.takes_back or not stored.has_content:
            transaction.connection.execute(
                certificates.update().where(certificates.c.id == stored.number).values(values)
            )
        if _severity(record.status) > _severity(stored.status):
            said.statuses.add((record.authority_id, record.serial))
        transaction.set_status(stored, status_of(record))
        return True


def _severity(status: CertificateStatus) -> int:
    return (CertificateStatus.GOOD, CertificateStatus.ON_HOLD, CertificateStatus.REVOKED).index(
        status
    )


def _remove(transaction: Transaction, number: int) -> None:
    names = certificate_names.c.certificate_id == number
    transaction.connection.execute(sa.delete(certificate_names).where(names))
    transaction.connection.execute(sa.delete(certificates).where(certificates.c.id == number))
