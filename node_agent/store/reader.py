"""Reading: connections that can't write, and methods that don't.

SQLite point reads run on the event loop itself: they take some 20 us, and handing them to a
thread costs more than that. Everything that can grow (searches, chunks, blobs) and every read of
PostgreSQL runs in a small thread pool. The figures are in docs/why/store.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from node_agent.errors import StoreError
from node_agent.store.approvals import approval_of_row, approvals_statement, votes_statement
from node_agent.store.audit_chain import AuditHead, AuditVerdict, ChainCheck, decode_body
from node_agent.store.contents import ContentReader
from node_agent.store.digests import DigestReader
from node_agent.store.engine import is_sqlite, reading_engine, translated
from node_agent.store.prepared import Prepared
from node_agent.store.records import CertificateState, CertificateStatus, Ownership
from node_agent.store.rows import (
    REVOKED_COLUMNS,
    certificate_record,
    change_entry,
    crl_record,
    key_record,
    object_record,
)
from node_agent.store.schema import (
    SERIAL_OCTETS,
    approval_requests,
    audit_log,
    certificates,
    change_log,
    crls,
    crypto_keys,
    log_heads,
    objects,
    publisher_positions,
    source_positions,
)
from node_agent.store.search import search_statement
from node_agent.store.sharing_reads import SharingReads

if TYPE_CHECKING:
    from node_agent.store.records import (
        ApprovalQuery,
        ApprovalRecord,
        AuditEntry,
        CertificateQuery,
        CertificateRecord,
        ChangeEntry,
        ChangeKind,
        CrlRecord,
        KeyRecord,
        ObjectRecord,
        RevokedRow,
    )

__all__ = ["AuditHead", "AuditVerdict", "StoreReader"]

ResultT = TypeVar("ResultT")
Work = Callable[[sa.Connection], ResultT]

READ_THREADS: Final = 4
"""Reads in flight beside the event loop's own; more would only share the same two cores."""

REVOKED_CHUNK: Final = 5000
AUDIT_CHUNK: Final = 2000

_certificate_by_serial = Prepared(
    sa.select(certificates).where(
        certificates.c.authority_id == sa.bindparam("authority_id"),
        certificates.c.serial == sa.bindparam("serial"),
    )
)
_state_by_serial = Prepared(
    sa.select(certificates.c.status, certificates.c.revoked_at, certificates.c.reason).where(
        certificates.c.authority_id == sa.bindparam("authority_id"),
        certificates.c.serial == sa.bindparam("serial"),
    )
)
_certificate_by_request = Prepared(
    sa.select(certificates).where(
        certificates.c.origin == sa.bindparam("origin"),
        certificates.c.request_id == sa.bindparam("request_id"),
    )
)
_object_by_name = Prepared(
    sa.select(objects).where(
        objects.c.node == sa.bindparam("node"),
        objects.c.kind == sa.bindparam("kind"),
        objects.c.name == sa.bindparam("name"),
    )
)
_publisher_position = Prepared(
    sa.select(publisher_positions.c.position).where(
        publisher_positions.c.publisher == sa.bindparam("name")
    )
)
_source_receipt = Prepared(
    sa.select(source_positions.c.position, source_positions.c.receipt).where(
        source_positions.c.source == sa.bindparam("name")
    )
)
_source_position = Prepared(
    sa.select(source_positions.c.position).where(source_positions.c.source == sa.bindparam("name"))
)
_heads = Prepared(
    sa.select(
        log_heads.c.position,
        log_heads.c.audit_sequence,
        log_heads.c.audit_hash,
        sa.select(sa.func.max(audit_log.c.sequence)).scalar_subquery(),
    )
)
_revoked_rows = (
    sa.select(*(certificates.c[name] for name in REVOKED_COLUMNS))
    .where(
        certificates.c.authority_id == sa.bindparam("authority_id"),
        certificates.c.crl_shard == sa.bindparam("shard"),
        certificates.c.serial > sa.bindparam("last"),
        certificates.c.status_changed_at.is_not(None),
    )
    .order_by(certificates.c.serial)
    .limit(sa.bindparam("chunk", type_=sa.Integer))
    # Without it SQLite gets a value of its own to bind.
    .offset(sa.literal_column("0"))
)
_revoked = Prepared(_revoked_rows.where(certificates.c.status != sa.literal_column("'good'")))
_revoked_since = Prepared(
    _revoked_rows.where(
        certificates.c.serial.in_(
            sa.select(change_log.c.serial).where(
                change_log.c.authority_id == sa.bindparam("authority_id"),
                change_log.c.kind == sa.literal_column("'status'"),
                change_log.c.position > sa.bindparam("since"),
            )
        )
    )
)


class StoreReader(SharingReads, ContentReader, DigestReader):
    """A Reader. ``start`` opens it, ``close`` waits for the reads that are under way."""

    def __init__(
        self,
        url: str,
        *,
        owner: Ownership | None = None,
        password: Callable[[], str] | None = None,
    ) -> None:
        self._owner = owner or Ownership()
        self._password = password
        self._engine = reading_engine(url, connections=READ_THREADS + 1, password=password)
        self._is_direct = is_sqlite(url)
        self._threads: ThreadPoolExecutor | None = None
        self._direct: sa.Connection | None = None

    async def __aenter__(self) -> StoreReader:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the first connection. Raises StoreError when the database can't be opened."""
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="store-reader")
        try:
            await self._read(lambda connection: connection.scalar(sa.select(log_heads.c.id)))
        except BaseException:
            await StoreReader.close(self)
            raise

    async def close(self) -> None:
        """Let running reads end and close every connection."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()
        self._engine.dispose()

    async def objects(self, kind: str | None = None) -> list[ObjectRecord]:
        """Return all objects (of ``kind``) but other nodes' own, ordered by kind and name."""
        mine = objects.c.node.in_(("", self._owner.node))
        statement = sa.select(objects).where(mine).order_by(objects.c.kind, objects.c.name)
        if kind is not None:
            statement = statement.where(objects.c.kind == kind)
        return [object_record(row) for row in await self._rows(statement)]

    async def object(self, kind: str, name: str) -> ObjectRecord | None:
        """Return one object or None."""
        node = self._owner.of(kind)
        row = await self._one(_object_by_name, node=node, kind=kind, name=name)
        return None if row is None else object_record(row)

    async def keys(self) -> list[KeyRecord]:
        """Return every key of every token, still encrypted, but no key of another node."""
        mine = crypto_keys.c.node.in_(("", self._owner.node))
        order = (crypto_keys.c.token, crypto_keys.c.label, crypto_keys.c.node)
        statement = sa.select(crypto_keys).where(mine).order_by(*order)
        return [key_record(row) for row in await self._rows(statement)]

    async def certificate(self, authority_id: str, serial: int) -> CertificateRecord | None:
        """Return one certificate or None."""
        row = await self._one_by_serial(_certificate_by_serial, authority_id, serial)
        return None if row is None else certificate_record(row)

    async def certificate_state(self, authority_id: str, serial: int) -> CertificateState | None:
        """Return what is said of one certificate, or None."""
        row = await self._one_by_serial(_state_by_serial, authority_id, serial)
        return None if row is None else CertificateState(CertificateStatus(row[0]), row[1], row[2])

    async def certificate_by_request(
        self, origin: str, request_id: bytes
    ) -> CertificateRecord | None:
        """Return what a request id was answered with, or None."""
        row = await self._one(_certificate_by_request, origin=origin, request_id=request_id)
        return None if row is None else certificate_record(row)

    async def approval(self, request: bytes) -> ApprovalRecord | None:
        """Return one request for approval or None."""
        found = await self._approvals(
            sa.select(approval_requests).where(approval_requests.c.id == request)
        )
        return found[0] if found else None

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRecord]:
        """Return requests for approval, oldest first, at most ``query.limit``."""
        return await self._approvals(approvals_statement(query))

    async def _approvals(self, statement: sa.Select[Any]) -> list[ApprovalRecord]:
        rows = await self._rows(statement)
        votes = await self._rows(votes_statement([row[0] for row in rows])) if rows else ()
        return [approval_of_row(row, votes) for row in rows]

    async def search(self, query: CertificateQuery) -> list[CertificateRecord]:
        """Return matches, newest first, at most ``query.limit``."""
        statement = search_statement(query)
        return [certificate_record(row) for row in await self._rows(statement)]

    async def revoked(
        self,
        authority_id: str,
        encode: Callable[[Sequence[RevokedRow]], ResultT],
        *,
        shard: int = 0,
        since: int | None = None,
    ) -> AsyncIterator[ResultT]:
        """Yield what ``encode`` makes of each chunk of revoked and held certificates, by serial;
        flat memory. It runs in the reading thread: a million rows don't pass the event loop.

        With ``since``, rows are what the change log says to have changed behind that position,
        released holds among it: status good, as a delta CRL needs them. A clock has no part in it.
        """
        statement = _revoked if since is None else _revoked_since
        values: dict[str, Any] = {"authority_id": authority_id, "shard": shard}
        values["chunk"] = REVOKED_CHUNK
        if since is not None:
            values["since"] = since
        last: bytes | None = b""

        def read(connection: sa.Connection) -> tuple[ResultT, bytes | None]:
            rows = statement.all(connection, **values, last=last)
            is_full = len(rows) == REVOKED_CHUNK
            return encode(rows), bytes(rows[-1][0]) if is_full else None

        while last is not None:
            encoded, last = await self._read(read)
            yield encoded

    async def latest_crl(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlRecord | None:
        """Return the newest full (or delta) CRL of a shard."""
        mine = (crls.c.authority_id == authority_id, crls.c.shard == shard)
        statement = (
            sa.select(crls)
            .where(*mine, crls.c.is_delta == int(delta))
            .order_by(crls.c.number.desc())
            .limit(1)
        )
        rows = await self._rows(statement)
        return crl_record(rows[0]) if rows else None

    async def changes(
        self,
        after: int,
        *,
        limit: int,
        authority_ids: Sequence[str] | None = None,
        kinds: Sequence[ChangeKind] | None = None,
    ) -> list[ChangeEntry]:
        """Return change-log entries with a position above ``after``, in order."""
        statement = sa.select(change_log).where(change_log.c.position > after)
        if authority_ids is not None:
            statement = statement.where(change_log.c.authority_id.in_(authority_ids))
        if kinds is not None:
            statement = statement.where(change_log.c.kind.in_(kinds))
        statement = statement.order_by(change_log.c.position).limit(limit)
        return [change_entry(row) for row in await self._rows(statement)]

    async def last_position(self) -> int:
        """Return the newest change-log position, 0 for an empty log."""
        return int((await self._log_heads())[0])

    async def publisher_position(self, publisher: str) -> int:
        """Return what the publisher's peer has acknowledged."""
        return await self._position(_publisher_position, publisher)

    async def source_position(self, source: str) -> int:
        """Return the newest position applied here from ``source`` (the VA's side)."""
        return await self._position(_source_position, source)

    async def source_receipt(self, source: str) -> tuple[int, bytes]:
        """Return that position with the receipt that came with it."""
        row = await self._one(_source_receipt, name=source)
        return (0, b"") if row is None else (int(row[0]), bytes(row[1]))

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Return audit entries with a sequence above ``after``, in order."""
        rows = await self._rows(_audit_rows(after, limit))
        return [decode_body((row[0], row[1], row[2], row[3])) for row in rows]

    async def audit_head(self) -> AuditHead:
        """Return the newest audit entry's number and hash: what a checkpoint states."""
        _, sequence, own, _ = await self._log_heads()
        return AuditHead(sequence, bytes(own))

    async def verify_audit(self, *, checkpoints: Sequence[AuditHead] = ()) -> AuditVerdict:
        """Check the whole audit log against its chain, its head, and earlier ``checkpoints``."""
        return await self._read(lambda connection: _verify(connection, ChainCheck(checkpoints)))

    async def _position(self, statement: Prepared, name: str) -> int:
        row = await self._one(statement, name=name)
        return 0 if row is None else int(row[0])

    async def _log_heads(self) -> Sequence[Any]:
        row = await self._one(_heads)
        if row is None:
            raise StoreError("the row of log heads is missing")
        return row

    async def _one_by_serial(
        self, statement: Prepared, authority_id: str, serial: int
    ) -> Sequence[Any] | None:
        if serial < 0 or serial.bit_length() > 8 * SERIAL_OCTETS:
            return None
        packed = serial.to_bytes(SERIAL_OCTETS, "big")
        return await self._one(statement, authority_id=authority_id, serial=packed)

    async def _one(self, statement: Prepared, **values: Any) -> Sequence[Any] | None:
        if not self._is_direct:
            return await self._read(lambda connection: statement.first(connection, **values))
        if self._threads is None:
            raise StoreError("the store is closed")
        with translated():
            if self._direct is None:
                self._direct = self._engine.connect()
            return statement.first(self._direct, **values)

    async def _rows(self, statement: sa.Select[Any]) -> Sequence[Sequence[Any]]:
        return await self._read(lambda connection: connection.execute(statement).all())

    async def _read(self, work: Work[ResultT]) -> ResultT:
        if self._threads is None:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._with_connection, work)

    def _with_connection(self, work: Work[ResultT]) -> ResultT:
        with translated():
            # After a server's restart each kept connection is dead: at most one for each thread and
            # one more are found so, closed one by one, and replaced.
            for _ in range(READ_THREADS + 1):
                with self._engine.connect() as connection:
                    try:
                        return work(connection)
                    except (OperationalError, InterfaceError) as error:
                        if self._is_direct or not _is_lost(error):
                            raise
                        connection.invalidate()
            with self._engine.connect() as connection:
                return work(connection)


def _is_lost(error: DBAPIError) -> bool:
    """Tell whether the connection ended: without a word, or by the operator (57P01 to 57P05)."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith("57P")


def _audit_rows(after: int, limit: int) -> sa.Select[Any]:
    return (
        sa.select(audit_log)
        .where(audit_log.c.sequence > after)
        .order_by(audit_log.c.sequence)
        .limit(limit)
    )


def _verify(connection: sa.Connection, check: ChainCheck) -> AuditVerdict:
    _, sequence, own, newest = _heads.one(connection)
    head = AuditHead(sequence, bytes(own))
    if (newest or 0) > head.sequence:
        return AuditVerdict(
            ok=False,
            entries=head.sequence,
            first_bad=head.sequence + 1,
            reason="the log goes on behind its head",
        )
    while check.last.sequence < head.sequence:
        limit = min(AUDIT_CHUNK, head.sequence - check.last.sequence)
        rows = connection.execute(_audit_rows(check.last.sequence, limit)).all()
        verdict = check.feed((row[0], row[1], row[2], row[3]) for row in rows)
        if verdict is not None:
            return verdict
        if not rows:
            break
    return check.finish(head)
