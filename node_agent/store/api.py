"""What the store promises: a Reader that can't write and a Writer that commits before it answers.

Status serving is given a Reader by type, so that a checker proves that the OCSP path can't write.
Every coroutine may raise StoreError; writes raise it only when nothing of them was stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from node_agent.store.records import (
        Approval,
        ApprovalQuery,
        ApprovalRecord,
        ApprovalState,
        AuditEntry,
        AuditRecord,
        CertificateQuery,
        CertificateQuota,
        CertificateRecord,
        CertificateState,
        ChangeEntry,
        ChangeKind,
        CrlHead,
        CrlOutlook,
        CrlRecord,
        CrlStart,
        EntryDigest,
        FollowedEntry,
        IssuanceOutcome,
        KeyRecord,
        ObjectChange,
        ObjectRecord,
        PendingLeaves,
        PublisherMark,
        RevokedRow,
        StatusChange,
        StatusOutcome,
        StatusRequest,
        StoreHeads,
        Vote,
    )

__all__ = ["Reader", "Writer"]

ResultT = TypeVar("ResultT")


class Reader(Protocol):
    """Read-only access."""

    async def objects(self, kind: str | None = None) -> list[ObjectRecord]:
        """Return all objects (of ``kind``) but other nodes' own, ordered by kind and name."""
        ...

    async def object(self, kind: str, name: str) -> ObjectRecord | None:
        """Return one object or None."""
        ...

    async def keys(self) -> list[KeyRecord]:
        """Return every key of every token, still encrypted, but no key of another node."""
        ...

    async def certificate(self, authority_id: str, serial: int) -> CertificateRecord | None:
        """Return one certificate or None."""
        ...

    async def certificate_state(self, authority_id: str, serial: int) -> CertificateState | None:
        """Return what is said of one certificate to who checks it, or None."""
        ...

    async def certificate_by_request(
        self, origin: str, request_id: bytes
    ) -> CertificateRecord | None:
        """Return what a request id was answered with, or None."""
        ...

    async def approval(self, request: bytes) -> ApprovalRecord | None:
        """Return one request for approval or None."""
        ...

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRecord]:
        """Return requests for approval, oldest first, at most ``query.limit``."""
        ...

    async def search(self, query: CertificateQuery) -> list[CertificateRecord]:
        """Return matches, newest first, at most ``query.limit``."""
        ...

    def revoked(
        self,
        authority_id: str,
        encode: Callable[[Sequence[RevokedRow]], ResultT],
        *,
        shard: int = 0,
        since: int | None = None,
    ) -> AsyncIterator[ResultT]:
        """Yield what ``encode`` makes, in another thread, of each chunk of revoked and held
        certificates of a shard, by serial; flat memory.
        """
        ...

    async def latest_crl(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlRecord | None:
        """Return the newest full (or delta) CRL of a shard."""
        ...

    async def crl_der(self, crl: CrlRecord) -> bytes:
        """Return a whole CRL in memory. Raises NotFound when a newer one has replaced it."""
        ...

    def crl_pieces(self, crl: CrlRecord, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a CRL from ``offset`` on in pieces of at most 256 KiB; NotFound as above."""
        ...

    async def held_octets(self, authority_id: str, sha256: bytes) -> int:
        """Return how much of a CRL with this digest is stored, from its beginning on."""
        ...

    async def crl_head(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlHead | None:
        """Return number and times of the newest full (or delta) CRL of a shard."""
        ...

    async def revoked_among(self, wanted: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of the certificates, by authority id and serial, that aren't good."""
        ...

    async def crl_outlook(self) -> dict[str, CrlOutlook]:
        """Return what there is of full CRLs, by authority id."""
        ...

    async def newest_crls(self, authority_id: str | None = None) -> dict[tuple[str, int], CrlHead]:
        """Return number and times of each newest full CRL, of every CA or of one, by authority id
        and shard.
        """
        ...

    async def certificate_counts(self) -> dict[str, int]:
        """Return how many certificates are recorded here, by authority id."""
        ...

    async def crl_numbers(self, authority_id: str) -> dict[tuple[int, bool], int]:
        """Return the number of the newest CRL by shard and whether it is a delta CRL."""
        ...

    async def uncovered_shards(self, authority_id: str, *, delta: bool = False) -> set[int]:
        """Return the shards in which a status has changed that the newest full (or delta) CRL may
        lack.
        """
        ...

    async def pending_leaves(self) -> PendingLeaves:
        """Return which buckets of certificates changed since their digests were made."""
        ...

    async def leaves(
        self, authority_id: str, *, only_changed: bool = False
    ) -> list[tuple[int, bytes, bytes, int]]:
        """Return bucket, digest of statuses, digest of certificates and number of entries; with
        ``only_changed`` those of the certificates whose status ever changed.
        """
        ...

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
        ...

    async def changes(
        self,
        after: int,
        *,
        limit: int,
        authority_ids: Sequence[str] | None = None,
        kinds: Sequence[ChangeKind] | None = None,
    ) -> list[ChangeEntry]:
        """Return change-log entries with a position above ``after``, in order."""
        ...

    async def heads(self) -> StoreHeads:
        """Return how far the store is."""
        ...

    async def followed(self, after: int, *, limit: int) -> list[FollowedEntry]:
        """Return change-log entries above ``after``, in order, without their payloads."""
        ...

    async def publisher_mark(self, publisher: str) -> PublisherMark:
        """Return how far a publisher is and whose turn it is."""
        ...

    async def last_position(self) -> int:
        """Return the newest change-log position, 0 for an empty log."""
        ...

    async def publisher_position(self, publisher: str) -> int:
        """Return what the publisher's peer has acknowledged."""
        ...

    async def source_position(self, source: str) -> int:
        """Return the newest position applied here from ``source`` (the VA's side)."""
        ...

    async def source_receipt(self, source: str) -> tuple[int, bytes]:
        """Return that position with the receipt that came with it."""
        ...

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Return audit entries with a sequence above ``after``, in order."""
        ...


class Writer(Reader, Protocol):
    """Read and write. Concurrent writes share a transaction; each returns after its commit."""

    async def record_issuance(
        self,
        certificate: CertificateRecord,
        payload: bytes,
        audit: AuditRecord,
        *,
        approval: Approval | None = None,
        quota: CertificateQuota | None = None,
    ) -> IssuanceOutcome:
        """Commit certificate, change-log entry (``payload``), request id and audit entry together;
        with ``approval``, also the end of that request for approval.

        Raises QuotaExceeded when the certificate's tenant has as many as ``quota`` allows.
        Raises Conflict when the request id was used with another ``request_digest``, or what was
        to allow it doesn't any more: rejected, withdrawn or over meanwhile.
        """
        ...

    async def open_approval(self, request: ApprovalRecord, audit: AuditRecord) -> ApprovalRecord:
        """Have a request wait for approvals, or return it as it is already.

        Raises Conflict for a request id that was used for another request, and where its origin
        has too many that wait.
        """
        ...

    async def add_vote(self, request: bytes, vote: Vote, audit: AuditRecord) -> ApprovalRecord:
        """Approve a request that waits. Raises NotFound, Conflict when it has ended."""
        ...

    async def end_approval(
        self, request: bytes, state: ApprovalState, *, by: str, reason: str, audit: AuditRecord
    ) -> ApprovalRecord:
        """Reject or withdraw a request that waits. Raises NotFound, Conflict when it has ended."""
        ...

    async def record_status(self, change: StatusChange, payload: bytes, audit: AuditRecord) -> int:
        """Commit a status change with its change-log entry; return the position.

        Raises NotFound for an unknown certificate, Conflict for a revoked one (a hold may be
        released or become a revocation; a revocation is final).
        """
        ...

    async def record_status_once(
        self, change: StatusChange, payload: bytes, audit: AuditRecord, request: StatusRequest
    ) -> StatusOutcome:
        """Carry out a signed request for a change of status, or return what it did before.

        Raises as ``record_status``, but not for a status that is so already; Conflict for a
        request id that was used for something else.
        """
        ...

    async def begin_crl(
        self, authority_id: str, *, shard: int = 0, delta: bool = False
    ) -> CrlStart:
        """Return a CRL number never returned before for this shard of the authority's CRL, and
        what a list made now will hold.
        """
        ...

    async def record_crl(
        self, crl: CrlRecord, payload: bytes, *, start: CrlStart | None = None
    ) -> int:
        """Commit a CRL with its change-log entry.

        Raises Conflict unless its number is new; Superseded when there is another since ``start``
        that holds as much.
        """
        ...

    async def announce_crl(self, crl: CrlRecord, payload: bytes) -> int:
        """Commit another change-log entry of a CRL that is here already: a peer has lost it."""
        ...

    async def drop_crl(self, crl: CrlRecord) -> None:
        """Forget a CRL that isn't what its CA signed, with all of its pieces."""
        ...

    async def put_crl_chunks(
        self, authority_id: str, sha256: bytes, first: int, chunks: Sequence[bytes]
    ) -> int:
        """Store pieces of a CRL (``contents.CHUNK_OCTETS`` each, the last one shorter) from number
        ``first`` on; return how many there are then. Raises Conflict when earlier ones are missing.
        """
        ...

    async def drop_crl_chunks(self, authority_id: str, sha256: bytes) -> None:
        """Forget the pieces of a CRL that isn't recorded."""
        ...

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

        Raises Outdated when the store's revision isn't ``made_at`` any more.

        ``entries`` are AUTHORITY change-log entries (authority_id, payload), ``certificates``
        the CA certificates issued by the plan with their change-log payloads.
        """
        ...

    async def refresh_leaves(self, authority_id: str, buckets: Sequence[int]) -> None:
        """Make the digests of some buckets of certificates anew."""
        ...

    async def cover_leaves(self, pending: PendingLeaves) -> None:
        """Note that the digests are up to date with what ``pending`` listed."""
        ...

    async def forget_leaves(self) -> None:
        """Have every digest made anew, also where nothing was noticed to have changed."""
        ...

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

        Without ``takes_back`` a revocation stays, and nothing is removed. ``entries`` are appended
        to this node's own change log where they say more than it did.
        """
        ...

    async def recover(
        self,
        *,
        position: int,
        crl_numbers: Mapping[tuple[str, int], int],
        certificates: Sequence[tuple[CertificateRecord, bytes]],
        statuses: Sequence[tuple[StatusChange, bytes]],
        audit: AuditRecord,
    ) -> int:
        """Bring a restored store up to what others have seen of it, in one transaction; return the
        newest position.

        The log goes on above ``position``, CRLs are numbered above ``crl_numbers`` (by authority id
        and shard). ``certificates`` and ``statuses`` come with their change-log payloads; what is
        here already stays, and a revocation is final.
        """
        ...

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        """Append to the audit log; return the newest sequence."""
        ...

    async def set_publisher_position(self, publisher: str, position: int) -> None:
        """Remember what the publisher's peer has acknowledged; never goes backward."""
        ...

    async def renew_log(self, seen: bytes) -> bytes:
        """Give the change log another name, unless it isn't ``seen`` any more; return its name."""
        ...

    async def take_turn(self, publisher: str, seen: PublisherMark) -> PublisherMark:
        """Make this node run ``publisher`` unless it moved since ``seen``; return how it stands."""
        ...

    async def keep_turn(self, publisher: str, position: int) -> PublisherMark:
        """Note how far this node has run ``publisher``; return how it stands now."""
        ...

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
        """Commit a batch from an upstream change log, idempotently; return the applied position.

        Certificates without ``der`` are status-only. A status for an absent certificate creates a
        status-only row. ``entries`` (the batch as received) are appended to this node's own change
        log where they say something new, so that a VA can feed another VA. A batch at or below the
        applied position changes nothing.
        """
        ...
