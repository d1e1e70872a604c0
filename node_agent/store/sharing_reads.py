"""Reads by which a node learns what the other nodes on its store do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from node_agent.errors import StoreError
from node_agent.store.prepared import Prepared
from node_agent.store.records import (
    CertificateStatus,
    ChangeKind,
    CrlHead,
    CrlOutlook,
    FollowedEntry,
    NodeRecord,
    PublisherMark,
    StoreHeads,
)
from node_agent.store.schema import (
    SERIAL_OCTETS,
    certificates,
    change_log,
    crl_numbers,
    crls,
    log_heads,
    nodes,
    publisher_positions,
    unpack_serial,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SharingReads"]

# Two parameters each; SQLite takes 999 in a statement where it was built with its oldest limit.
_KEYS_AT_ONCE: Final = 400

_store_heads: Final = Prepared(
    sa.select(
        log_heads.c.position, log_heads.c.revision, log_heads.c.log_id, log_heads.c.log_secret
    )
)
_mark: Final = Prepared(
    sa.select(
        publisher_positions.c.position, publisher_positions.c.holder, publisher_positions.c.beat
    ).where(publisher_positions.c.publisher == sa.bindparam("name"))
)


class SharingReads(ABC):
    """Part of a StoreReader."""

    async def heads(self) -> StoreHeads:
        """Return how far the store is."""
        row = await self._one(_store_heads)
        if row is None:
            raise StoreError("the row of log heads is missing")
        return StoreHeads(
            position=row[0], revision=row[1], log_id=bytes(row[2]), log_secret=bytes(row[3])
        )

    async def followed(self, after: int, *, limit: int) -> list[FollowedEntry]:
        """Return change-log entries above ``after``, in order, without their payloads."""
        table = change_log.c
        statement = (
            sa.select(table.position, table.kind, table.authority_id, table.serial)
            .where(table.position > after)
            .order_by(table.position)
            .limit(limit)
        )
        return [
            FollowedEntry(
                position=row[0],
                kind=ChangeKind(row[1]),
                authority_id=row[2],
                serial=None if row[3] is None else unpack_serial(row[3]),
            )
            for row in await self._rows(statement)
        ]

    async def crl_head(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlHead | None:
        """Return number and times of the newest full (or delta) CRL of a shard."""
        table = crls.c
        statement = (
            sa.select(table.number, table.this_update, table.next_update, table.covers)
            .where(
                table.authority_id == authority_id,
                table.shard == shard,
                table.is_delta == int(delta),
            )
            .order_by(table.number.desc())
            .limit(1)
        )
        rows = await self._rows(statement)
        if not rows:
            return None
        number, this_update, next_update, covers = rows[0]
        return CrlHead(
            number=number, this_update=this_update, next_update=next_update, covers=covers
        )

    async def crl_outlook(self) -> dict[str, CrlOutlook]:
        """Return what there is of full CRLs, by authority id."""
        table = crls.c
        lists = sa.select(table.authority_id, sa.func.count(), sa.func.min(table.next_update))
        lists = lists.where(table.is_delta == 0).group_by(table.authority_id)
        numbers = crl_numbers.c
        behind = sa.select(numbers.authority_id).where(
            numbers.status_position > numbers.full_covers
        )
        uncovered = {row[0] for row in await self._rows(behind)}
        return {
            authority: CrlOutlook(
                count=count, next_update=next_update, is_uncovered=authority in uncovered
            )
            for authority, count, next_update in await self._rows(lists)
        }

    async def newest_crls(self, authority_id: str | None = None) -> dict[tuple[str, int], CrlHead]:
        """Return number and times of each newest full CRL, of every CA or of one, by authority id
        and shard.
        """
        table = crls.c
        columns = (table.number, table.this_update, table.next_update, table.covers)
        statement = (
            sa.select(table.authority_id, table.shard, *columns)
            .where(table.is_delta == 0)
            .order_by(table.number)
        )
        if authority_id is not None:
            statement = statement.where(table.authority_id == authority_id)
        return {
            (row[0], row[1]): CrlHead(
                number=row[2], this_update=row[3], next_update=row[4], covers=row[5]
            )
            for row in await self._rows(statement)
        }

    async def revoked_among(self, wanted: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of the certificates, by authority id and serial, that aren't good."""
        keys = [
            (authority_id, serial.to_bytes(SERIAL_OCTETS, "big"))
            for authority_id, serial in sorted(wanted)
            if 0 <= serial < 1 << 8 * SERIAL_OCTETS
        ]
        table, found = certificates.c, set[tuple[str, int]]()
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            statement = sa.select(table.authority_id, table.serial).where(
                sa.tuple_(table.authority_id, table.serial).in_(some),
                table.status != CertificateStatus.GOOD.value,
            )
            found.update((row[0], unpack_serial(row[1])) for row in await self._rows(statement))
        return found

    async def certificate_counts(self) -> dict[str, int]:
        """Return how many certificates are recorded here, by authority id."""
        owner = certificates.c.authority_id
        statement = sa.select(owner, sa.func.count()).group_by(owner)
        return {row[0]: int(row[1]) for row in await self._rows(statement)}

    async def crl_numbers(self, authority_id: str) -> dict[tuple[int, bool], int]:
        """Return the number of the newest CRL by shard and whether it is a delta CRL."""
        table = crls.c
        statement = (
            sa.select(table.shard, table.is_delta, sa.func.max(table.number))
            .where(table.authority_id == authority_id)
            .group_by(table.shard, table.is_delta)
        )
        return {(row[0], bool(row[1])): row[2] for row in await self._rows(statement)}

    async def uncovered_shards(self, authority_id: str, *, delta: bool = False) -> set[int]:
        """Return the shards in which a status has changed that the newest full (or delta) CRL may
        lack.
        """
        table = crl_numbers.c
        columns = (table.shard, table.status_position, table.full_covers, table.delta_covers)
        rows = await self._rows(sa.select(*columns).where(table.authority_id == authority_id))
        return {
            shard
            for shard, changed, full, with_delta in rows
            if changed > (max(full, with_delta) if delta else full)
        }

    async def publisher_mark(self, publisher: str) -> PublisherMark:
        """Return how far a publisher is and whose turn it is."""
        row = await self._one(_mark, name=publisher)
        if row is None:
            return PublisherMark()
        return PublisherMark(position=row[0], holder=row[1], beat=row[2])

    async def nodes(self) -> list[NodeRecord]:
        """Return every node that ever started on this store, by name."""
        return [
            NodeRecord(name=row[0], shares_passphrase=bool(row[1]), started_at=row[2])
            for row in await self._rows(sa.select(nodes).order_by(nodes.c.name))
        ]

    @abstractmethod
    async def _one(self, statement: Prepared, **values: Any) -> Sequence[Any] | None: ...

    @abstractmethod
    async def _rows(self, statement: sa.Select[Any]) -> Sequence[Sequence[Any]]: ...
