"""The store of a node: opened once, written by one thread, read by many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node_agent.clock import Clock, SystemClock
from node_agent.errors import StoreError
from node_agent.store.approvals import AddVote, EndApproval, OpenApproval
from node_agent.store.commands import (
    AnnounceCrl,
    AppendAudit,
    BeginCrl,
    DropCrl,
    RecordCrl,
    RecordIssuance,
    RecordStatus,
    SetPublisherPosition,
)
from node_agent.store.committer import GroupCommitter
from node_agent.store.contents import DropChunks, PutChunks
from node_agent.store.digests import CoverLeaves, ForgetLeaves, RefreshLeaves
from node_agent.store.engine import create_private, translated, writing_engine
from node_agent.store.migrate import migrate
from node_agent.store.plan import ApplyPlan
from node_agent.store.published import ApplyPublished
from node_agent.store.reader import StoreReader
from node_agent.store.recovery import RecoverStore
from node_agent.store.repairs import ApplyRepair
from node_agent.store.sharing import JoinStore, KeepTurn, RenewLog, TakeTurn
from node_agent.store.status_once import RecordStatusOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import sqlalchemy as sa

    from node_agent.store.records import (
        Approval,
        ApprovalRecord,
        ApprovalState,
        AuditRecord,
        CertificateQuota,
        CertificateRecord,
        ChangeEntry,
        CrlRecord,
        CrlStart,
        IssuanceOutcome,
        KeyRecord,
        NodeRecord,
        ObjectChange,
        Ownership,
        PendingLeaves,
        PublisherMark,
        StatusChange,
        StatusOutcome,
        StatusRequest,
        Vote,
    )

__all__ = ["Store", "open_reader", "open_store"]


class Store(StoreReader):
    """A Writer: reads like any reader, and commits before it answers.

    Every write raises StoreError (NotFound, Conflict where ``api.Writer`` says so) only when
    nothing of it was stored, except where the message says that the outcome is unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        owner: Ownership | None = None,
        password: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(url, owner=owner, password=password)
        self._url = url
        self._writing = writing_engine(url, password=password)
        self._clock = clock
        self._committer = GroupCommitter(self._writing, clock=clock)

    async def __aenter__(self) -> Store:
        await self.start()
        return self

    async def start(self) -> None:
        """Migrate the database and start the writer. Raises StoreError."""
        try:
            await asyncio.to_thread(_migrate, self._url, self._writing)
            await super().start()
        except BaseException:
            self._writing.dispose()
            raise
        self._committer.start()

    async def close(self) -> None:
        """Commit what is queued and close every connection."""
        try:
            await self._committer.close()
        finally:
            await super().close()
            self._writing.dispose()

    def observe_commits(self, observer: Callable[[float], None]) -> None:
        """Tell ``observer``, in the writer's thread, how many seconds each transaction took."""
        self._committer.on_commit = observer

    def reader(self) -> StoreReader:
        """Return a reader of this database: connections and a type that can't write.

        Start it after the store, and close it before.
        """
        return StoreReader(self._url, owner=self._owner, password=self._password)

    async def join(self, *, shares_passphrase: bool) -> list[NodeRecord]:
        """Note that this node starts on the store; return every node that ever did.

        Raises Conflict when there are several and one has no shared passphrase.
        """
        return await self._committer.submit(JoinStore(self._owner.node, shares_passphrase))

    async def record_issuance(
        self,
        certificate: CertificateRecord,
        payload: bytes,
        audit: AuditRecord,
        *,
        approval: Approval | None = None,
        quota: CertificateQuota | None = None,
    ) -> IssuanceOutcome:
        """Commit certificate, change-log entry, request id and audit entry together.

        Raises Conflict when the request id was used with another ``request_digest``, or what was
        to allow it doesn't any more; QuotaExceeded for a tenant's bounds.
        """
        return await self._committer.submit(
            RecordIssuance(certificate, payload, audit, approval, quota)
        )

    async def open_approval(self, request: ApprovalRecord, audit: AuditRecord) -> ApprovalRecord:
        """Have a request wait for approvals, or return it as it is already.

        Raises Conflict for a request id that was used for another request, and where its origin
        has too many that wait.
        """
        return await self._committer.submit(OpenApproval(request, audit))

    async def add_vote(self, request: bytes, vote: Vote, audit: AuditRecord) -> ApprovalRecord:
        """Approve a request that waits. Raises NotFound, Conflict when it has ended."""
        return await self._committer.submit(AddVote(request, vote, audit))

    async def end_approval(
        self, request: bytes, state: ApprovalState, *, by: str, reason: str, audit: AuditRecord
    ) -> ApprovalRecord:
        """Reject or withdraw a request that waits. Raises NotFound, Conflict when it has ended."""
        return await self._committer.submit(EndApproval(request, state, by, reason, audit))

    async def record_status(self, change: StatusChange, payload: bytes, audit: AuditRecord) -> int:
        """Commit a status change with its change-log entry; return the position.

        Raises NotFound for an unknown certificate; Conflict for a revoked one, and for one that
        has the status already.
        """
        return await self._committer.submit(RecordStatus(change, payload, audit))

    async def record_status_once(
        self, change: StatusChange, payload: bytes, audit: AuditRecord, request: StatusRequest
    ) -> StatusOutcome:
        """Carry out a signed request for a change of status, or return what it did before.

        Raises as ``record_status``, but not for a status that is so already; Conflict for a
        request id that was used for something else.
        """
        return await self._committer.submit(
            RecordStatusOnce(change=change, payload=payload, audit=audit, request=request)
        )

    async def begin_crl(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlStart:
        """Return a CRL number never returned before for this shard of the authority's CRL, and
        what a list made now will hold.
        """
        return await self._committer.submit(BeginCrl(authority_id, shard, delta))

    async def record_crl(
        self, crl: CrlRecord, payload: bytes, *, start: CrlStart | None = None
    ) -> int:
        """Commit a CRL with its change-log entry.

        Raises Conflict unless its number is new; Superseded when there is another since ``start``
        that holds as much.
        """
        return await self._committer.submit(RecordCrl(crl, payload, start))

    async def announce_crl(self, crl: CrlRecord, payload: bytes) -> int:
        """Commit another change-log entry of a CRL that is here already: a peer has lost it."""
        return await self._committer.submit(AnnounceCrl(crl, payload))

    async def drop_crl(self, crl: CrlRecord) -> None:
        """Forget a CRL that isn't what its CA signed, with all of its pieces."""
        await self._committer.submit(DropCrl(crl))

    async def put_crl_chunks(
        self, authority_id: str, sha256: bytes, first: int, chunks: Sequence[bytes]
    ) -> int:
        """Store pieces of a CRL from number ``first`` on; return how many there are then.

        Raises Conflict when pieces before them are missing.
        """
        return await self._committer.submit(PutChunks(authority_id, sha256, first, chunks))

    async def drop_crl_chunks(self, authority_id: str, sha256: bytes) -> None:
        """Forget the pieces of a CRL that isn't recorded."""
        await self._committer.submit(DropChunks(authority_id, sha256))

    async def apply_plan(
        self,
        changes: Sequence[ObjectChange],
        *,
        keys: Sequence[KeyRecord] = (),
        entries: Sequence[tuple[str, bytes]] = (),
        certificates: Sequence[tuple[CertificateRecord, bytes]] = (),
        audit: Sequence[AuditRecord] = (),
        made_at: int | None = None,
    ) -> None:
        """Commit a management plan in one transaction.

        Raises NotFound when an object to delete doesn't exist, Conflict when a certificate
        exists already or another key has one of the labels, Outdated when the store's revision
        isn't ``made_at`` any more. ``generation`` is counted here.
        """
        await self._committer.submit(
            ApplyPlan(
                changes=changes,
                keys=keys,
                entries=entries,
                certificates=certificates,
                audit=audit,
                owner=self._owner,
                made_at=made_at,
            )
        )

    async def refresh_leaves(self, authority_id: str, buckets: Sequence[int]) -> None:
        """Make the digests of some buckets of certificates anew."""
        await self._committer.submit(RefreshLeaves(authority_id, buckets))

    async def cover_leaves(self, pending: PendingLeaves) -> None:
        """Note that the digests are up to date with what ``pending`` listed."""
        await self._committer.submit(CoverLeaves(pending))

    async def forget_leaves(self) -> None:
        """Have every digest made anew."""
        await self._committer.submit(ForgetLeaves())

    async def apply_repair(
        self,
        authority_id: str,
        records: Sequence[CertificateRecord],
        *,
        removed: Sequence[int],
        audit: AuditRecord,
        entries: Sequence[ChangeEntry] = (),
        takes_back: bool = True,
    ) -> int:
        """Make rows what their CA says; remove those of serials that it never issued. Return how
        many rows are as they must be.
        """
        return await self._committer.submit(
            ApplyRepair(
                authority_id=authority_id,
                records=records,
                removed=removed,
                audit=audit,
                entries=entries,
                takes_back=takes_back,
            )
        )

    async def renew_log(self, seen: bytes) -> bytes:
        """Give the change log another name, unless it isn't ``seen`` any more; return its name."""
        return await self._committer.submit(RenewLog(seen))

    async def recover(
        self,
        *,
        position: int,
        crl_numbers: Mapping[tuple[str, int], int],
        certificates: Sequence[tuple[CertificateRecord, bytes]],
        statuses: Sequence[tuple[StatusChange, bytes]],
        audit: AuditRecord,
    ) -> int:
        """Bring a restored store up to what others have seen of it; return the newest position."""
        return await self._committer.submit(
            RecoverStore(
                position=position,
                crl_numbers=crl_numbers,
                certificates=certificates,
                statuses=statuses,
                audit=audit,
            )
        )

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        """Append to the audit log; return the newest sequence."""
        return await self._committer.submit(AppendAudit(records))

    async def set_publisher_position(self, publisher: str, position: int) -> None:
        """Remember what the publisher's peer has acknowledged; never goes backward."""
        await self._committer.submit(SetPublisherPosition(publisher, position))

    async def take_turn(self, publisher: str, seen: PublisherMark) -> PublisherMark:
        """Make this node run ``publisher`` unless it moved since ``seen``; return how it stands."""
        return await self._committer.submit(TakeTurn(publisher, self._owner.node, seen))

    async def keep_turn(self, publisher: str, position: int) -> PublisherMark:
        """Note how far this node has run ``publisher``; return how it stands now."""
        return await self._committer.submit(KeepTurn(publisher, self._owner.node, position))

    async def apply_published(
        self,
        source: str,
        position: int,
        *,
        certificates: Sequence[CertificateRecord] = (),
        statuses: Sequence[StatusChange] = (),
        crls: Sequence[CrlRecord] = (),
        entries: Sequence[ChangeEntry] = (),
        receipt: bytes = b"",
    ) -> int:
        """Commit a batch from an upstream change log, idempotently; return the applied position."""
        return await self._committer.submit(
            ApplyPublished(
                source=source,
                position=position,
                certificates=certificates,
                statuses=statuses,
                crls=crls,
                entries=entries,
                receipt=receipt,
            )
        )


def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    owner: Ownership | None = None,
    password: Callable[[], str] | None = None,
) -> Store:
    """Return the store at ``url`` (``sqlite:///path`` or ``postgresql://…``), not started yet.

    ``owner`` parts what is one node's own from what the nodes of a store share. ``password`` is
    asked at each new connection, so that a changed one needs no restart. Use the store with
    ``async with``, or call ``start`` and ``close``. Raises ConfigError for a URL that can't be one.
    """
    return Store(url, clock=clock or SystemClock(), owner=owner, password=password)


def open_reader(url: str, *, password: Callable[[], str] | None = None) -> StoreReader:
    """Return a reader of a database that a store has made already: for status workers."""
    return StoreReader(url, password=password)


def _migrate(url: str, engine: sa.Engine) -> None:
    try:
        create_private(url)
    except OSError as error:
        raise StoreError(f"the database can't be opened: {error}") from error
    with translated():
        migrate(engine)
