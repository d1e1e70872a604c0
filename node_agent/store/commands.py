"""What can be written, one class per kind of write.

``needs`` says what the batch must read first; ``stage`` decides and stages, or refuses by raising
before it has staged anything. Both run in the writer's thread, inside the batch's transaction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from node_agent.errors import Conflict, NotFound, Superseded
from node_agent.store.approvals import check_approved, close_issued
from node_agent.store.contents import check_content, drop_superseded
from node_agent.store.records import (
    Approval,
    AuditRecord,
    CertificateQuota,
    CertificateRecord,
    CertificateStatus,
    ChangeKind,
    CrlRecord,
    CrlStart,
    IssuanceOutcome,
    StatusChange,
)
from node_agent.store.schema import crl_numbers, crls, pack_serial, publisher_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = [
    "AppendAudit",
    "BeginCrl",
    "Command",
    "RecordCrl",
    "RecordIssuance",
    "RecordStatus",
    "SetPublisherPosition",
    "insert_crl",
    "put_position",
    "raise_crl_number",
]

ResultT_co = TypeVar("ResultT_co", covariant=True)

KEPT_CRLS: Final = 2
"""CRLs kept of each kind: the newest, and the one before for a download that is under way."""


class Command(Protocol[ResultT_co]):
    """One write. ``weight`` is about how many rows it writes; it bounds a batch."""

    @property
    def weight(self) -> int:
        """Return about how many rows the command writes."""
        ...

    def needs(self, needs: Needs) -> None:
        """Add what ``stage`` looks at."""
        ...

    def stage(self, transaction: Transaction) -> ResultT_co:
        """Decide and stage; return the answer that is given after the commit."""
        ...


class _Light:
    """A write of a few rows that looks at nothing beforehand."""

    __slots__ = ()

    @property
    def weight(self) -> int:
        return 1

    def needs(self, needs: Needs) -> None:
        return


@dataclass(slots=True)
class RecordIssuance(_Light):
    """A certificate with its change-log entry, request id and audit entry; and the end of the
    request for approval that allows it.
    """

    certificate: CertificateRecord
    payload: bytes
    audit: AuditRecord
    approval: Approval | None = None
    quota: CertificateQuota | None = None

    def needs(self, needs: Needs) -> None:
        """Look at what the request id was answered with."""
        if self.certificate.request_id:
            needs.requests.add(self.certificate.request_id)

    def stage(self, transaction: Transaction) -> IssuanceOutcome:
        """Stage all of it, or return the stored certificate of a repeated request."""
        record = self.certificate
        known = transaction.request(record) if record.request_id else None
        if known is not None:
            if known.certificate.request_digest != record.request_digest:
                raise Conflict("the request id was used for another request")
            return IssuanceOutcome(
                certificate=known.certificate, repeated=True, position=known.position
            )
        if self.approval is not None:
            check_approved(transaction, self.approval.request, self.approval.approvers)
        if self.quota is not None:
            transaction.counts.check(record.tenant, self.quota)
        position = transaction.log_certificate(record, self.payload)
        transaction.counts.issued(record)
        transaction.append_audit(self.audit)
        if self.approval is not None:
            close_issued(transaction, record)
        return IssuanceOutcome(certificate=record, repeated=False, position=position)


@dataclass(frozen=True, slots=True)
class RecordStatus(_Light):
    """A revocation, hold or release with its change-log entry and audit entry."""

    change: StatusChange
    payload: bytes
    audit: AuditRecord

    def needs(self, needs: Needs) -> None:
        """Look at the certificate's status."""
        needs.certificates.add((self.change.authority_id, pack_serial(self.change.serial)))

    def stage(self, transaction: Transaction) -> int:
        """Stage the step when RFC 5280 allows it; return its position."""
        change = self.change
        stored = transaction.certificate(change.authority_id, change.serial, change.tenants)
        if stored is None:
            raise NotFound(f"no certificate {change.serial:x} of authority {change.authority_id}")
        _check_step(stored.status, change.status)
        transaction.set_status(stored, change)
        position = transaction.append_change(
            ChangeKind.STATUS,
            change.authority_id,
            change.serial,
            at=change.at,
            payload=self.payload,
        )
        transaction.note_status(change.authority_id, stored.crl_shard, position)
        transaction.append_audit(self.audit)
        return position


@dataclass(frozen=True, slots=True)
class RecordCrl(_Light):
    """A CRL with its change-log entry. ``start`` is what it was begun with, None for a list whose
    maker keeps no account of that.
    """

    crl: CrlRecord
    payload: bytes
    start: CrlStart | None = None

    def stage(self, transaction: Transaction) -> int:
        """Stage the CRL when its number is the newest of its shard; return its position."""
        crl = self.crl
        is_delta = int(crl.base_number is not None)
        newest = _newest_crls(transaction, crl.authority_id, crl.shard)
        # A full and a delta CRL made together share their number (RFC 5280 section 5.2.3).
        if crl.number <= newest.get(is_delta, 0) or crl.number < newest.get(1 - is_delta, 0):
            raise Conflict(f"CRL number {crl.number} isn't new for {crl.authority_id}")
        if self.start is not None:
            self._check_is_wanted(transaction, self.start, newest.get(is_delta, 0))
        insert_crl(transaction, crl, covers=self.start.covers if self.start else 0)
        if crl.number > _crl_account(transaction, crl.authority_id, crl.shard).number:
            _put_account(transaction, crl.authority_id, crl.shard, number=crl.number)
        if self.start is not None:
            column = "delta_covers" if is_delta else "full_covers"
            covered = {column: self.start.covers}
            _put_account(transaction, crl.authority_id, crl.shard, **covered)
        return transaction.append_change(
            ChangeKind.CRL, crl.authority_id, None, at=crl.this_update, payload=self.payload
        )

    def _check_is_wanted(self, transaction: Transaction, start: CrlStart, newest: int) -> None:
        """Refuse a list that another node has made meanwhile, unless this one holds more."""
        account = _crl_account(transaction, self.crl.authority_id, self.crl.shard)
        covered = account.full_covers if self.crl.base_number is None else account.delta_covers
        if newest > start.newest and covered >= start.covers:
            raise Superseded(f"another node has made CRL {newest} meanwhile")


@dataclass(frozen=True, slots=True)
class AnnounceCrl(_Light):
    """Another change-log entry of a CRL that was recorded before."""

    crl: CrlRecord
    payload: bytes

    def stage(self, transaction: Transaction) -> int:
        """Stage the entry; return its position."""
        crl = self.crl
        return transaction.append_change(
            ChangeKind.CRL, crl.authority_id, None, at=crl.this_update, payload=self.payload
        )


@dataclass(frozen=True, slots=True)
class DropCrl(_Light):
    """Forget a CRL that isn't what its CA signed."""

    crl: CrlRecord

    def stage(self, transaction: Transaction) -> None:
        """Drop its row, and the pieces that only it had."""
        crl = self.crl
        mine = sa.and_(
            crls.c.authority_id == crl.authority_id,
            crls.c.shard == crl.shard,
            crls.c.is_delta == int(crl.base_number is not None),
            crls.c.number == crl.number,
        )
        drop_superseded(transaction, crl.authority_id, mine)


@dataclass(frozen=True, slots=True)
class BeginCrl(_Light):
    """A number, and what a list that is read from now on is sure to hold."""

    authority_id: str
    shard: int
    is_delta: bool

    def stage(self, transaction: Transaction) -> CrlStart:
        """Count up and look."""
        of = (self.authority_id, self.shard)
        account = _crl_account(transaction, *of)
        _put_account(transaction, *of, number=account.number + 1)
        newest = _newest_crls(transaction, *of)
        return CrlStart(
            number=account.number + 1,
            covers=transaction.status_position(*of) or account.status_position,
            newest=newest.get(int(self.is_delta), 0),
            not_before=_first_date(transaction, *of, int(self.is_delta)),
        )


@dataclass(frozen=True, slots=True)
class AppendAudit(_Light):
    """Audit records of decisions that changed nothing else."""

    records: Sequence[AuditRecord]

    @property
    def weight(self) -> int:
        """Return how many records there are."""
        return max(1, len(self.records))

    def stage(self, transaction: Transaction) -> int:
        """Chain the records; return the newest sequence."""
        for record in self.records:
            transaction.append_audit(record)
        return transaction.audit_sequence


@dataclass(frozen=True, slots=True)
class SetPublisherPosition(_Light):
    """What a publisher's peer has acknowledged."""

    publisher: str
    position: int

    def stage(self, transaction: Transaction) -> None:
        """Move forward, never backward."""
        put_position(transaction, publisher_positions, self.publisher, self.position)


def put_position(
    transaction: Transaction, table: sa.Table, name: str, position: int, **beside: bytes
) -> None:
    """Set the position of ``name``, and what is kept ``beside`` it, unless it is further on."""
    (key,) = table.primary_key.columns
    known = transaction.connection.scalar(sa.select(table.c.position).where(key == name))
    if known is None:
        values: dict[str, Any] = {key.name: name, "position": position, **beside}
        if table is publisher_positions:
            values |= {"holder": "", "beat": 0}
        transaction.connection.execute(table.insert().values(values))
    elif known < position:
        transaction.connection.execute(
            table.update().where(key == name).values(position=position, **beside)
        )


def insert_crl(transaction: Transaction, crl: CrlRecord, *, covers: int = 0) -> None:
    """Insert a CRL and drop those of its kind that nobody will ask for.

    Raises Conflict when the pieces of a long one aren't stored.
    """
    is_delta = int(crl.base_number is not None)
    content = crl.content
    if content is not None:
        check_content(transaction, crl.authority_id, content)
    transaction.connection.execute(
        crls.insert().values(
            authority_id=crl.authority_id,
            shard=crl.shard,
            is_delta=is_delta,
            number=crl.number,
            base_number=crl.base_number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            der=crl.der,
            content_sha256=content.sha256 if content else None,
            content_octets=content.octets if content else None,
            covers=covers,
        )
    )
    same_kind = sa.and_(
        crls.c.authority_id == crl.authority_id,
        crls.c.shard == crl.shard,
        crls.c.is_delta == is_delta,
    )
    kept = sa.select(crls.c.number).where(same_kind).order_by(crls.c.number.desc()).limit(KEPT_CRLS)
    drop_superseded(transaction, crl.authority_id, same_kind & crls.c.number.not_in(kept))


def raise_crl_number(transaction: Transaction, authority_id: str, shard: int, number: int) -> None:
    """Have the CRLs of a shard numbered above ``number``."""
    if number > _crl_account(transaction, authority_id, shard).number:
        _put_account(transaction, authority_id, shard, number=number)


def _check_step(stored: CertificateStatus, wanted: CertificateStatus) -> None:
    if stored is CertificateStatus.REVOKED:
        raise Conflict("the certificate is revoked, and a revocation is final")
    if stored is wanted:
        raise Conflict(f"the certificate's status is {stored} already")


def _newest_crls(transaction: Transaction, authority_id: str, shard: int) -> dict[int, int]:
    rows = transaction.connection.execute(
        sa.select(crls.c.is_delta, sa.func.max(crls.c.number))
        .where(crls.c.authority_id == authority_id, crls.c.shard == shard)
        .group_by(crls.c.is_delta)
    )
    return {row[0]: row[1] for row in rows}


def _first_date(transaction: Transaction, authority_id: str, shard: int, is_delta: int) -> int:
    """Return the first date that a list may have: not before the shard's others, and not that of
    another of its kind.
    """
    rows = transaction.connection.execute(
        sa.select(crls.c.is_delta, sa.func.max(crls.c.this_update))
        .where(crls.c.authority_id == authority_id, crls.c.shard == shard)
        .group_by(crls.c.is_delta)
    )
    return max((date + (kind == is_delta) for kind, date in rows), default=0)


@dataclass(frozen=True, slots=True)
class _CrlAccount:
    """A row of crl_numbers."""

    number: int = 0
    status_position: int = 0
    full_covers: int = 0
    delta_covers: int = 0


def _crl_account(transaction: Transaction, authority_id: str, shard: int) -> _CrlAccount:
    table = crl_numbers.c
    columns = (table.number, table.status_position, table.full_covers, table.delta_covers)
    row = transaction.connection.execute(
        sa.select(*columns).where(table.authority_id == authority_id, table.shard == shard)
    ).one_or_none()
    return _CrlAccount() if row is None else _CrlAccount(*row)


def _put_account(transaction: Transaction, authority_id: str, shard: int, **values: int) -> None:
    mine = (crl_numbers.c.authority_id == authority_id) & (crl_numbers.c.shard == shard)
    if transaction.connection.execute(crl_numbers.update().where(mine).values(values)).rowcount:
        return
    row = {**asdict(_CrlAccount()), **values, "authority_id": authority_id, "shard": shard}
    transaction.connection.execute(crl_numbers.insert().values(row))
