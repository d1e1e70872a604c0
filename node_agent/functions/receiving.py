"""The VA's side of publishing: apply what a peer's change log says, in order and idempotently.

The dispatcher has already decided that the peer may publish these kinds for these CA names. What
remains is to hold every entry to those names: a peer that is granted one CA must not be able to
say anything about another by writing the other's authority id into an entry.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from node_agent.errors import Conflict, PolicyDenied, RequestRefused
from node_agent.functions.change_payloads import (
    AuthorityPayload,
    CertificatePayload,
    CrlPayload,
    StatusPayload,
    certificate_record,
    crl_record,
    decode,
    status_change,
)
from node_agent.functions.crl_transfer import ContentReceiver
from node_agent.functions.known_authorities import (
    KnownAuthorities,
    KnownAuthority,
    load_authority,
    to_record,
)
from node_agent.functions.provenance import Feeds
from node_agent.functions.signal import ChangeSignal
from node_agent.peers.codec import UNREADABLE
from node_agent.peers.operations import (
    PositionAnswer,
    PositionRequest,
    PublishAnswer,
    PublishedEntry,
    PublishRequest,
    serial_number,
)
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    ChangeKind,
    CrlRecord,
    ObjectChange,
    StatusChange,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from node_agent.clock import Clock
    from node_agent.peers.dispatcher import Context
    from node_agent.store.api import Writer

__all__ = ["SHARED_LOG", "Applied", "PublicationReceiver", "read_certificate"]

# What the source of a change log that several nodes share starts with: its random name follows.
SHARED_LOG = "log:"

_KINDS_OF_ROWS = (ChangeKind.CERTIFICATE, ChangeKind.STATUS)

# A batch that overtook its predecessor on another link waits this long for it.
_ORDER_WAIT_SECONDS = 10.0


@dataclass(slots=True)
class Applied:
    """What a batch changed, for whoever keeps answers made of it."""

    certificates: list[CertificateRecord] = field(default_factory=list)
    statuses: list[StatusChange] = field(default_factory=list)
    crls: list[CrlRecord] = field(default_factory=list)
    authorities: list[KnownAuthority] = field(default_factory=list)


class PublicationReceiver:
    """Handles PUBLISH, PUBLISH_CONTENT and PUBLISH_POSITION. ``on_applied`` is called after each
    commit. Nothing is acknowledged before ``settled`` returns: then no answer of before is given.
    """

    def __init__(
        self,
        store: Writer,
        known: KnownAuthorities,
        *,
        clock: Clock,
        changed: ChangeSignal,
        on_applied: Callable[[Applied], None],
        settled: Callable[[], Awaitable[None]],
        own_log: str = "",
    ) -> None:
        self._store = store
        self._known = known
        self._clock = clock
        self._changed = changed
        self._on_applied = on_applied
        self._settled = settled
        self._locks: dict[str, asyncio.Lock] = {}
        self._moved = ChangeSignal()
        self._contents = ContentReceiver(store, known)
        self.content = self._contents.receive
        self.feeds = Feeds(known, clock, own_log=own_log)

    async def position(self, context: Context, request: PositionRequest) -> PositionAnswer:
        """Answer the committed position of a source, and take in what it says of itself.

        Raises Conflict for what has passed through this node already.
        """
        source = _filed_as(context, request)
        log = request.source.partition("#")[0]
        news = self.feeds.note(log, request)
        if news:
            await self._keep(news)
            self._on_applied(Applied(authorities=news))
        async with self._locks.setdefault(source, asyncio.Lock()):
            position, receipt = await self._store.source_receipt(source)
        # To tell a position is to acknowledge it, as below: no old answer may be left anywhere.
        await self._settled()
        return PositionAnswer(position=position, receipt=receipt)

    async def publish(self, context: Context, request: PublishRequest) -> PublishAnswer:
        """Commit a batch.

        Raises Conflict when entries before it are missing, PolicyDenied when an entry is for a
        CA that the batch doesn't name, RequestRefused for a malformed or contradictory entry.
        """
        source = _filed_as(context, request)
        await self._wait_for_predecessors(source, request)
        async with self._locks.setdefault(source, asyncio.Lock()):
            applied = self._read(request, _publisher(context, request))
            await self._learn(applied.authorities)
            await self._check_long_crls(applied)
            position = await self._commit(source, request, applied)
        # CRLs have a lane of their own, which may be ahead of the statuses.
        told = [entry.at for entry in request.entries if entry.kind in _KINDS_OF_ROWS]
        if told:
            self.feeds.note_fresh(request.authorities, told[-1])
        self._moved.announce()
        self._changed.announce()
        self._on_applied(applied)
        await self._settled()
        return PublishAnswer(position=position)

    async def _check_long_crls(self, applied: Applied) -> None:
        """Leave out lists that newer ones have replaced here; let the others prove themselves."""
        for crl in [crl for crl in applied.crls if crl.content is not None]:
            authority = self._known.get(crl.authority_id)
            assert authority is not None
            if await self._contents.is_superseded(crl):
                applied.crls.remove(crl)
            else:
                await self._contents.check(authority, crl)

    async def _wait_for_predecessors(self, source: str, request: PublishRequest) -> None:
        until = self._clock.monotonic() + _ORDER_WAIT_SECONDS
        while True:
            seen = self._moved.count
            position = await self._store.source_position(source)
            if position >= request.after:
                return
            left = until - self._clock.monotonic()
            if left <= 0 or not await self._moved.wait(seen, left):
                raise Conflict(f"applied up to {position}, the batch follows {request.after}")

    def _read(self, request: PublishRequest, publisher: str) -> Applied:
        applied = Applied()
        for entry in request.entries:
            try:
                self._read_entry(entry, request.authorities, publisher, applied)
            except (*UNREADABLE, KeyError, ValueError) as error:
                raise RequestRefused(
                    f"entry {entry.position} is not a valid {entry.kind!r} entry", field="entries"
                ) from error
        return applied

    def _read_entry(
        self, entry: PublishedEntry, names: Sequence[str], publisher: str, applied: Applied
    ) -> None:
        payload = decode(entry.kind, entry.payload)
        if isinstance(payload, AuthorityPayload):
            authority = _read_authority(entry, payload, names, publisher)
            is_partial, path = self.feeds.describe(authority.name)
            authority = replace(authority, is_partial=is_partial, path=path)
            self._refuse_own(authority.authority_id)
            applied.authorities.append(authority)
            return
        authority = self._authority(entry.authority_id, names, applied)
        if isinstance(payload, CrlPayload):
            applied.crls.append(_read_crl(authority, payload))
            return
        serial = serial_number(entry.serial or b"")
        if isinstance(payload, CertificatePayload):
            applied.certificates.append(read_certificate(authority, serial, payload))
        elif isinstance(payload, StatusPayload):
            applied.statuses.append(status_change(authority.authority_id, serial, payload))

    def _authority(self, identifier: str, names: Sequence[str], applied: Applied) -> KnownAuthority:
        new = (item for item in applied.authorities if item.authority_id == identifier)
        authority = next(new, None) or self._known.get(identifier)
        if authority is None or authority.name not in names:
            raise PolicyDenied(f"the batch doesn't speak for the CA {identifier}", rule="publish")
        self._refuse_own(identifier)
        return authority

    def _refuse_own(self, identifier: str) -> None:
        """Nobody tells a CA what it did, whatever roles say."""
        known = self._known.get(identifier)
        if known is not None and known.is_own:
            raise PolicyDenied(f"{known.name!r} is this node's own CA", rule="publish")

    async def _learn(self, authorities: Sequence[KnownAuthority]) -> None:
        await self._keep([authority for authority in authorities if self._known.add(authority)])

    async def _keep(self, authorities: Sequence[KnownAuthority]) -> None:
        if not authorities:
            return
        now = self._clock.now()
        known = [self._known.get(authority.authority_id) for authority in authorities]
        records = [to_record(authority, now) for authority in known if authority is not None]
        await self._store.apply_plan(
            [ObjectChange(kind=r.kind, name=r.name, record=r) for r in records]
        )

    async def _commit(self, source: str, request: PublishRequest, applied: Applied) -> int:
        return await self._store.apply_published(
            source,
            request.position,
            certificates=applied.certificates,
            statuses=applied.statuses,
            crls=applied.crls,
            entries=[_change_entry(entry) for entry in request.entries],
            receipt=request.receipt,
        )


def _publisher(context: Context, request: PositionRequest | PublishRequest) -> str:
    """Return whom a batch is from: a node, or a change log that several nodes share.

    A node's source belongs to that node: nobody moves another's position.
    """
    head = request.source.partition("#")[0]
    if head != context.origin.node.uri and not head.startswith(SHARED_LOG):
        raise PolicyDenied("the source isn't the publishing node's own log", rule="publish")
    return head


def _filed_as(context: Context, request: PositionRequest | PublishRequest) -> str:
    """Return under what name the position of a source is kept.

    A shared log's is kept with the CAs that it is for. To name those a peer must be granted all of
    them, so nobody moves the position of a CA for which it couldn't publish anyway.
    """
    if not _publisher(context, request).startswith(SHARED_LOG):
        return request.source
    names = "\n".join(sorted(request.authorities))
    return f"{request.source}@{hashlib.sha256(names.encode()).hexdigest()[:16]}"


def _read_authority(
    entry: PublishedEntry, payload: AuthorityPayload, names: Sequence[str], publisher: str
) -> KnownAuthority:
    authority = load_authority(payload.name, payload.chain, publisher)
    if authority.name not in names:
        raise PolicyDenied(f"the batch doesn't speak for {authority.name!r}", rule="publish")
    if authority.authority_id != entry.authority_id:
        raise ValueError("the authority id isn't that of the certificate")
    return authority


def read_certificate(
    authority: KnownAuthority,
    serial: int,
    payload: CertificatePayload,
    status: StatusChange | None = None,
) -> CertificateRecord:
    """Return a published certificate as a row. Raises ValueError for a wrong fingerprint."""
    if payload.der and hashlib.sha256(payload.der).digest() != payload.fingerprint_sha256:
        raise ValueError("the fingerprint isn't that of the certificate")
    record = certificate_record(authority.authority_id, serial, payload)
    if status is None or status.status is CertificateStatus.GOOD:
        return record
    return replace(
        record,
        status=status.status,
        revoked_at=status.at,
        reason=status.reason,
        invalidity_at=status.invalidity_at,
    )


def _read_crl(authority: KnownAuthority, payload: CrlPayload) -> CrlRecord:
    record = crl_record(authority.authority_id, payload)
    if record.content is not None:
        return record
    crl = x509.load_der_x509_crl(payload.der)
    key = authority.certificate.public_key()
    try:
        # A key that can't sign CRLs at all raises TypeError.
        is_signed = crl.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the CRL's signature can't be checked") from error
    if not is_signed or crl.issuer != authority.certificate.subject:
        raise ValueError("the CRL isn't signed by its CA")
    return record


def _change_entry(entry: PublishedEntry) -> ChangeEntry:
    return ChangeEntry(
        position=entry.position,
        kind=ChangeKind(entry.kind),
        authority_id=entry.authority_id,
        serial=None if entry.serial is None else serial_number(entry.serial),
        at=entry.at,
        payload=entry.payload,
    )
