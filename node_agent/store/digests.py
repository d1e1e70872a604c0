"""Digests of certificates by ranges of serial numbers: what two stores compare.

A *bucket* is the certificates of one CA whose packed serial begins with the same two octets. Its
*leaf* holds two SHA-256, over its entries in order: of what is said of each (fingerprint, status,
time, reason), and of the certificates themselves; and the same two over the certificates whose
status ever changed, for peers that are told only of those. Issuing pays nothing for them: new
certificates are those above a number that is remembered, and triggers mark the buckets in which
anything else changed, whoever changed it. Only those leaves are made anew (docs/why/sync.md).
"""

from __future__ import annotations

import hashlib
import struct
from abc import abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from node_agent.store.records import EntryDigest, PendingLeaves
from node_agent.store.schema import (
    certificates,
    log_heads,
    pack_serial,
    sync_heads,
    sync_leaves,
    sync_marks,
    unpack_serial,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = [
    "BUCKETS",
    "CoverLeaves",
    "DigestReader",
    "ForgetLeaves",
    "RefreshLeaves",
    "bucket_of",
]

ResultT = TypeVar("ResultT")

BUCKETS: Final = 1 << 16
_MARKS_AT_ONCE: Final = 50_000
_IDS_AT_ONCE: Final = 500
_WEIGHT: Final = 20
"""A bucket of a CA with a million certificates has some 30 entries to read and hash."""

_COLUMNS: Final = tuple(
    certificates.c[name]
    for name in (
        *("serial", "status", "revoked_at", "reason", "invalidity_at", "fingerprint_sha256", "der"),
        "status_changed_at",
    )
)
_STATUS_NUMBERS: Final = {"good": 0, "on_hold": 1, "revoked": 2}
_pack_status = struct.Struct(">Bqqq").pack


@dataclass(frozen=True, slots=True)
class RefreshLeaves:
    """Make the leaves of some buckets of one CA anew."""

    authority_id: str
    buckets: Sequence[int]

    @property
    def weight(self) -> int:
        """Return about how many rows are looked at."""
        return max(1, len(self.buckets)) * _WEIGHT

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand."""

    def stage(self, transaction: Transaction) -> None:
        """Replace the leaves; a bucket without entries has none."""
        found = _leaves(transaction.connection, self.authority_id, self.buckets)
        wanted = sorted(self.buckets)
        mine = sync_leaves.c.authority_id == self.authority_id
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            some = wanted[start : start + _IDS_AT_ONCE]
            transaction.connection.execute(
                sync_leaves.delete().where(mine, sync_leaves.c.bucket.in_(some))
            )
        rows = [(self.authority_id, bucket, *leaf) for bucket, leaf in found.items()]
        if rows:
            transaction.bulk.insert(transaction.connection, sync_leaves, rows)


@dataclass(frozen=True, slots=True)
class CoverLeaves:
    """Note that the leaves are up to date with what ``pending`` listed."""

    pending: PendingLeaves

    @property
    def weight(self) -> int:
        """Return how many marks go."""
        return max(1, len(self.pending.marks))

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand."""

    def stage(self, transaction: Transaction) -> None:
        """Move on and drop the marks."""
        newest = self.pending.newest_certificate
        transaction.connection.execute(
            sync_heads.update()
            .where(sync_heads.c.certificate_id < newest)
            .values(certificate_id=newest)
        )
        marks = self.pending.marks
        for start in range(0, len(marks), _IDS_AT_ONCE):
            some = marks[start : start + _IDS_AT_ONCE]
            transaction.connection.execute(sync_marks.delete().where(sync_marks.c.id.in_(some)))


@dataclass(frozen=True, slots=True)
class ForgetLeaves:
    """Have every leaf made anew, also where nothing was noticed to have changed."""

    weight: int = 1

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand."""

    def stage(self, transaction: Transaction) -> None:
        """Drop all leaves, and with them what they were up to date with."""
        transaction.connection.execute(sync_leaves.delete())
        transaction.connection.execute(sync_heads.update().values(certificate_id=0))


class DigestReader:
    """The part of a reader that reads leaves, and what they are made of."""

    @abstractmethod
    async def _read(self, work: Callable[[sa.Connection], ResultT]) -> ResultT:
        """Run ``work`` on a connection, away from the event loop."""

    async def pending_leaves(self) -> PendingLeaves:
        """Return which buckets changed since their leaves were made."""
        return await self._read(_pending)

    async def leaves(
        self, authority_id: str, *, only_changed: bool = False
    ) -> list[tuple[int, bytes, bytes, int]]:
        """Return bucket, digest of statuses, digest of certificates and number of entries; with
        ``only_changed`` those of the certificates whose status ever changed.
        """
        table = sync_leaves.c
        columns = (table.statuses, table.certificates, table.entries)
        if only_changed:
            columns = (table.changed_statuses, table.changed_certificates, table.changed_entries)
        statement = sa.select(table.bucket, *columns).where(
            table.authority_id == authority_id, columns[-1] > 0
        )
        return await self._read(
            lambda connection: [tuple(row) for row in connection.execute(statement)]
        )

    async def entry_digests(
        self,
        authority_id: str,
        buckets: Sequence[int],
        *,
        after: int,
        limit: int,
        only_changed: bool = False,
    ) -> list[EntryDigest]:
        """Return the entries of some buckets with a serial above ``after``, in order; with
        ``only_changed`` those whose status ever changed.
        """
        wanted = _rows_of(authority_id, only_changed=only_changed)
        return await self._read(lambda connection: _some(connection, wanted, buckets, after, limit))


def bucket_of(serial: int) -> int:
    """Return the bucket of a serial number."""
    return int.from_bytes(pack_serial(serial)[:2], "big")


def _some(
    connection: sa.Connection,
    wanted: sa.Select[Any],
    buckets: Sequence[int],
    after: int,
    limit: int,
) -> list[EntryDigest]:
    found: list[EntryDigest] = []
    lowest = pack_serial(after + 1)
    for bucket in sorted(buckets):
        first, last = _bounds(bucket, bucket)
        if last < lowest:
            continue
        statement = _between(wanted, max(first, lowest), last)
        for row in connection.execute(statement.limit(limit - len(found))):
            statuses, whole = _digests(row)
            found.append(
                EntryDigest(
                    serial=unpack_serial(row[0]),
                    statuses=hashlib.sha256(statuses).digest(),
                    certificate=whole[len(row[0]) :],
                )
            )
        if len(found) >= limit:
            break
    return found


def _leaves(
    connection: sa.Connection, authority_id: str, buckets: Sequence[int]
) -> dict[int, tuple[Any, ...]]:
    """Return the columns of each leaf: those over all entries, those over the changed ones."""
    found: defaultdict[int, list[tuple[bytes, bytes, bool]]] = defaultdict(list)
    wanted = set(buckets)
    rows = _rows_of(authority_id)
    for first, last in _ranges(sorted(wanted)):
        for row in connection.execute(_between(rows, *_bounds(first, last))):
            bucket = int.from_bytes(row[0][:2], "big")
            if bucket in wanted:
                found[bucket].append((*_digests(row), row[-1] is not None))
    return {
        bucket: (*_leaf(parts), *_leaf([part for part in parts if part[2]]))
        for bucket, parts in found.items()
    }


def _leaf(parts: Sequence[tuple[bytes, bytes, bool]]) -> tuple[bytes, bytes, int]:
    return (
        hashlib.sha256(b"".join(part[0] for part in parts)).digest(),
        hashlib.sha256(b"".join(part[1] for part in parts)).digest(),
        len(parts),
    )


def _digests(row: Sequence[Any]) -> tuple[bytes, bytes]:
    """Return what is said of a certificate, and the certificate itself by its digest."""
    serial, status, revoked_at, reason, invalidity_at, fingerprint, der, _ = row
    whole = hashlib.sha256(der).digest() if der else b""
    said = serial + (whole or fingerprint)
    numbers = (-1 if value is None else value for value in (revoked_at, reason, invalidity_at))
    return said + _pack_status(_STATUS_NUMBERS[status], *numbers), serial + whole


def _rows_of(authority_id: str, *, only_changed: bool = False) -> sa.Select[Any]:
    rows = sa.select(*_COLUMNS).where(certificates.c.authority_id == authority_id)
    return rows.where(certificates.c.status_changed_at.is_not(None)) if only_changed else rows


def _between(rows: sa.Select[Any], first: bytes, last: bytes) -> sa.Select[Any]:
    return rows.where(certificates.c.serial.between(first, last)).order_by(certificates.c.serial)


def _bounds(first: int, last: int) -> tuple[bytes, bytes]:
    return first.to_bytes(2, "big") + bytes(18), last.to_bytes(2, "big") + b"\xff" * 18


def _ranges(buckets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of runs of neighbours: a full rebuild reads along the index."""
    start = 0
    for index in range(1, len(buckets) + 1):
        if index == len(buckets) or buckets[index] != buckets[index - 1] + 1:
            yield buckets[start], buckets[index - 1]
            start = index


def _pending(connection: sa.Connection) -> PendingLeaves:
    newest = int(connection.scalar(sa.select(log_heads.c.certificate_id)) or 0)
    covered = int(connection.scalar(sa.select(sync_heads.c.certificate_id)) or 0)
    marks = connection.execute(
        sa.select(sync_marks.c.id, sync_marks.c.authority_id, sync_marks.c.bucket)
        .order_by(sync_marks.c.id)
        .limit(_MARKS_AT_ONCE)
    ).all()
    added: Iterable[Sequence[Any]] = ()
    # Rows above the newest number, or below the first one, are nobody's but somebody's by hand.
    if connection.scalar(sa.select(sa.func.max(certificates.c.id))) != covered:
        added = connection.execute(
            sa.select(certificates.c.authority_id, sa.func.substr(certificates.c.serial, 1, 2))
            .where(certificates.c.id > covered)
            .distinct()
        ).all()
    buckets: defaultdict[str, set[int]] = defaultdict(set)
    for _, authority_id, bucket in marks:
        buckets[authority_id].add(bucket)
    for authority_id, prefix in added:
        buckets[authority_id].add(int.from_bytes(prefix, "big"))
    return PendingLeaves(
        newest_certificate=newest,
        marks=tuple(row[0] for row in marks),
        buckets={name: sorted(found) for name, found in buckets.items()},
        has_more=len(marks) == _MARKS_AT_ONCE,
    )
