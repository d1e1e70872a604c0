"""One write transaction: what the commands of a batch read, and what they stage for it.

Commands decide in memory, in their order, against what is stored *and* what the commands before
them staged; only then is everything written, one bulk statement per table. So a command that is
refused has touched nothing, and fifty issuances cost about as many statements as one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from node_agent.store.audit_chain import encode_body, entry_hash
from node_agent.store.bulk import Bulk, Lookup
from node_agent.store.prepared import Prepared
from node_agent.store.quotas import TenantCounts
from node_agent.store.records import (
    AuditRecord,
    CertificateRecord,
    CertificateStatus,
    ChangeKind,
    StatusChange,
)
from node_agent.store.rows import (
    CERTIFICATE_COLUMNS,
    certificate_record,
    certificate_row,
    position_of,
    search_names,
)
from node_agent.store.schema import (
    audit_log,
    certificate_names,
    certificates,
    change_log,
    crl_numbers,
    log_heads,
    pack_serial,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Needs", "StoredCertificate", "StoredRequest", "Transaction"]

CertificateKey = tuple[str, bytes]
"""authority_id and packed serial."""

_STATUS_COLUMNS: Final = (
    *("status", "revoked_at", "reason", "invalidity_at", "status_changed_at"),
)
_by_request = Lookup(certificates, ("id", "origin", "request_id"), "request_id")
_by_serial = Lookup(
    certificates,
    (
        *("id", "authority_id", "serial", "status", "position", "length(der)"),
        *("crl_shard", "tenant", "not_after", "status_changed_at"),
    ),
    "serial",
    group="authority_id",
)
_HEADS: Final = ("certificate_id", "position", "audit_sequence", "audit_hash", "revision")
_CONTENT: Final = tuple(
    index
    for index, name in enumerate(CERTIFICATE_COLUMNS)
    if name not in ("id", "authority_id", "serial", "position", *_STATUS_COLUMNS)
)
"""Columns that a status alone can't fill."""

_lock_heads = Prepared(sa.select(*(log_heads.c[name] for name in _HEADS)).with_for_update())
_by_number = Prepared(sa.select(certificates).where(certificates.c.id == sa.bindparam("number")))


@dataclass(slots=True)
class Needs:
    """What a batch is going to look at, collected so that it is read in a few statements."""

    requests: set[bytes] = field(default_factory=set)
    certificates: set[CertificateKey] = field(default_factory=set)


@dataclass(slots=True)
class StoredCertificate:
    """What deciding on a status takes: number of the row, status, change-log position.

    ``has_content`` is False for a row that was made by a status alone; ``status_changed_at`` is 0
    where the status never changed.
    """

    number: int
    status: CertificateStatus
    position: int
    has_content: bool
    crl_shard: int
    tenant: str
    not_after: int
    status_changed_at: int


@dataclass(slots=True)
class StoredRequest:
    """What a request id was answered with."""

    certificate: CertificateRecord
    position: int


class Transaction:
    """A batch's view of the database; made inside an open transaction, used by one thread."""

    def __init__(self, connection: sa.Connection, bulk: Bulk, *, now: int) -> None:
        self.connection = connection
        self.bulk = bulk
        self.now = now
        heads = tuple(_lock_heads.one(connection))
        self._heads = heads
        self._number: int = heads[0]
        self.position: int = heads[1]
        self.audit_sequence: int = heads[2]
        self._audit_hash: bytes = bytes(heads[3])
        self.revision: int = heads[4]
        self.counts = TenantCounts(connection, now=now)
        self._requests: dict[bytes, dict[str, StoredRequest]] = {}
        self._certificates: dict[CertificateKey, StoredCertificate] = {}
        self._new_certificates: list[tuple[Any, ...]] = []
        self._new_names: list[tuple[str, int]] = []
        self._new_changes: list[tuple[Any, ...]] = []
        self._new_audit: list[tuple[Any, ...]] = []
        self._new_contents: list[tuple[Any, ...]] = []
        self._new_statuses: dict[int, tuple[Any, ...]] = {}
        self._status_positions: dict[tuple[str, int], int] = {}

    def load(self, needs: Needs) -> None:
        """Read what the batch said it needs."""
        for number, origin, request_id in (
            self.bulk.lookup(self.connection, _by_request, list(needs.requests))
            if needs.requests
            else ()
        ):
            row = _by_number.one(self.connection, number=number)
            request = StoredRequest(certificate_record(row), position_of(row))
            self._requests.setdefault(bytes(request_id), {})[origin] = request
        for authority_id, serials in _grouped(needs.certificates):
            for row in self.bulk.lookup(self.connection, _by_serial, serials, authority_id):
                self._certificates[authority_id, bytes(row[2])] = _stored_certificate(row)

    def request(self, asked: CertificateRecord) -> StoredRequest | None:
        """Return what the request id of ``asked``, named in ``Needs``, was answered with.

        That is, what its origin got for it; or what another origin of the same tenant got for the
        same request: a client whose RA died asks another one. What else other origins use the id
        for is their own business, and never told.
        """
        answered = self._requests.get(asked.request_id, {})
        own = answered.get(asked.origin)
        return own or next((one for one in answered.values() if _is_same(one, asked)), None)

    def certificate(
        self, authority_id: str, serial: int, tenants: Sequence[str] | None = None
    ) -> StoredCertificate | None:
        """Return a certificate that was asked for in ``Needs``, or was staged before; where
        ``tenants`` are given, only one of theirs.
        """
        stored = self._certificates.get((authority_id, pack_serial(serial)))
        if stored is not None and tenants is not None and stored.tenant not in tenants:
            return None
        return stored

    def add_certificate(
        self, record: CertificateRecord, position: int, *, from_upstream: bool = False
    ) -> None:
        """Stage a new certificate. Raises StoreError when its serial can't be stored.

        The request id of a certificate from upstream was that node's promise, not ours: two
        upstream CAs may have answered one id each.
        """
        number = self._number + 1
        row = certificate_row(record, number, position, with_request=not from_upstream)
        self._number = number
        self._new_certificates.append(row)
        self._new_names += [(name, number) for name in search_names(record)]
        stored = StoredCertificate(
            *(number, record.status, position, bool(record.der), record.crl_shard),
            *(record.tenant, record.not_after, record.revoked_at or 0),
        )
        self._certificates[record.authority_id, row[2]] = stored
        if record.request_id and not from_upstream:
            request = StoredRequest(record, position)
            self._requests.setdefault(record.request_id, {})[record.origin] = request

    def fill_certificate(self, stored: StoredCertificate, record: CertificateRecord) -> None:
        """Stage the content of a certificate of which only the status was known."""
        row = certificate_row(record, stored.number, stored.position, with_request=False)
        self._new_contents.append((*(row[index] for index in _CONTENT), stored.number))
        self._new_names += [(name, stored.number) for name in search_names(record)]
        stored.has_content = True

    def set_status(self, stored: StoredCertificate, change: StatusChange) -> None:
        """Stage a status; whether the step is allowed was decided before."""
        is_good = change.status is CertificateStatus.GOOD
        self._new_statuses[stored.number] = (
            change.status.value,
            None if is_good else change.at,
            None if is_good else change.reason,
            None if is_good else change.invalidity_at,
            change.at,
            stored.number,
        )
        if change.status is CertificateStatus.REVOKED:
            self.counts.revoked(stored.tenant, stored.not_after)
        stored.status = change.status
        stored.status_changed_at = change.at

    def append_change(
        self, kind: ChangeKind, authority_id: str, serial: int | None, *, at: int, payload: bytes
    ) -> int:
        """Stage a change-log entry; return its position."""
        packed = None if serial is None else pack_serial(serial)
        self.position += 1
        self._new_changes.append((self.position, kind.value, authority_id, packed, at, payload))
        return self.position

    def log_certificate(self, record: CertificateRecord, payload: bytes) -> int:
        """Stage a certificate of our own with its change-log entry; return their position."""
        self.add_certificate(record, self.position + 1)
        return self.append_change(
            ChangeKind.CERTIFICATE,
            record.authority_id,
            record.serial,
            at=record.issued_at,
            payload=payload,
        )

    def note_status(self, authority_id: str, shard: int, position: int) -> None:
        """Stage that a CRL is wanted which covers the change of status at ``position``."""
        self._status_positions[authority_id, shard] = position

    def status_position(self, authority_id: str, shard: int) -> int | None:
        """Return the newest change of status that this batch has staged, None without one."""
        return self._status_positions.get((authority_id, shard))

    def append_audit(self, record: AuditRecord) -> int:
        """Chain an audit record to the one before it; return its sequence."""
        body = encode_body(record)
        sequence = self.audit_sequence + 1
        own = entry_hash(self._audit_hash, sequence, body)
        self._new_audit.append((sequence, body, self._audit_hash, own))
        self.audit_sequence = sequence
        self._audit_hash = own
        return sequence

    def flush(self) -> None:
        """Write everything staged; the caller commits."""
        for table, rows in (
            (certificates, self._new_certificates),
            (certificate_names, self._new_names),
            (change_log, self._new_changes),
            (audit_log, self._new_audit),
        ):
            if rows:
                self.bulk.insert(self.connection, table, rows)
        if self._new_contents:
            names = [CERTIFICATE_COLUMNS[index] for index in _CONTENT]
            self.bulk.update(self.connection, certificates, names, self._new_contents)
        if self._new_statuses:
            statuses = list(self._new_statuses.values())
            self.bulk.update(self.connection, certificates, _STATUS_COLUMNS, statuses)
        self.counts.flush()
        for (authority_id, shard), position in self._status_positions.items():
            _put_status_position(self.connection, authority_id, shard, position)
        heads = (
            *(self._number, self.position, self.audit_sequence, self._audit_hash),
            self.revision,
        )
        if heads != self._heads:
            self.bulk.update(self.connection, log_heads, _HEADS, [(*heads, 1)])


def _stored_certificate(row: Sequence[Any]) -> StoredCertificate:
    number, _, _, status, position, octets, shard, tenant, not_after, changed_at = row
    return StoredCertificate(
        *(number, CertificateStatus(status), position, octets > 0, shard),
        *(tenant, not_after, changed_at or 0),
    )


def _put_status_position(
    connection: sa.Connection, authority_id: str, shard: int, position: int
) -> None:
    mine = (crl_numbers.c.authority_id == authority_id) & (crl_numbers.c.shard == shard)
    done = connection.execute(crl_numbers.update().where(mine).values(status_position=position))
    if done.rowcount == 0:
        values = {"number": 0, "status_position": position, "full_covers": 0, "delta_covers": 0}
        connection.execute(
            crl_numbers.insert().values(authority_id=authority_id, shard=shard, **values)
        )


def _is_same(stored: StoredRequest, asked: CertificateRecord) -> bool:
    known = stored.certificate
    return (known.authority_id, known.tenant, known.request_digest) == (
        *(asked.authority_id, asked.tenant, asked.request_digest),
    )


def _grouped(keys: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, list[bytes]]]:
    groups: dict[str, list[bytes]] = defaultdict(list)
    for group, value in keys:
        groups[group].append(value)
    return groups.items()
