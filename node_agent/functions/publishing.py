"""The CA's side of publishing: follow the change log and push it to one peer.

A publisher holds no queue. Its whole state is a position in the change log, so that a VA that was
away for a day simply resumes, and issuing never waits for a VA. Batches are pipelined: while some
travel, the next are read. The receiver applies them in order and answers the position that it has
committed; only that moves ours. A long CRL goes by itself: its pieces first (``crl_transfer.py``),
then a batch of its entry alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import structlog

from node_agent.errors import NodeAgentError, NotFound
from node_agent.functions.change_payloads import (
    CertificatePayload,
    certificate_payload,
    decode,
    encode,
    status_only,
)
from node_agent.functions.containment import Containment
from node_agent.functions.crl_transfer import LongCrl, find_long_crl, send_content
from node_agent.functions.publishing_turn import BEAT_SECONDS, OnlyTurn, TurnLost
from node_agent.functions.receipts import Receipts
from node_agent.functions.receiving import SHARED_LOG
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.peers.operations import (
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_POSITION,
    ContentRequest,
    PositionRequest,
    PublishedEntry,
    PublishRequest,
    serial_octets,
)
from node_agent.store.records import ChangeKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from node_agent.clock import Clock
    from node_agent.functions.peer_calls import PeerCalls
    from node_agent.functions.provenance import OwnLog
    from node_agent.functions.publishing_turn import Turn
    from node_agent.functions.signal import ChangeSignal
    from node_agent.objects import PublisherSpec
    from node_agent.store.api import Writer
    from node_agent.store.records import ChangeEntry

__all__ = ["Publisher", "PublisherSnapshot", "own_log_name", "source_name"]

log = structlog.get_logger(__name__)

# One frame's worth of typical certificates (about 1 KiB each) that a VA commits in some 10 ms.
_BATCH_ENTRIES = 500
# With each revoked certificate's status goes the certificate.
_REVOKED_BATCH_ENTRIES = 100
# CRLs make entries large: a batch is also ended by its bytes, well below the largest message.
_BATCH_BYTES = 1024 * 1024
_BATCHES_IN_FLIGHT = 4
# Under load a batch gathers what is committed within this time: a batch costs two signatures, two
# verifications and a commit at the VA, whatever is in it. A status is visible this much later.
_GATHER_SECONDS = 0.02
_CALL_SECONDS = 30.0
# A request with pieces of a CRL carries 8 MiB.
_CONTENT_SECONDS = 240.0
_RETRY_SECONDS = 0.5
_RETRY_CAP_SECONDS = 2.0
# Another node may write to the same store without our hearing of it.
_LOOK_AGAIN_SECONDS = 1.0
# A peer with nothing to take in is asked how far it is: it may have been restored.
_ASK_AGAIN_SECONDS = 10.0


class _OtherSource(NodeAgentError):
    """What is published has another name now: a CA has become known, or the log was renamed."""


class PublisherSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How far a publisher is. ``lag_entries`` is an upper bound: entries of other CAs count."""

    name: str
    peer: str
    position: int
    last_position: int
    lag_entries: int
    lag_seconds: float
    state: str
    last_error: str | None
    verified_at: int | None = None
    differences: int = 0


@dataclass(slots=True)
class _Batch:
    """A batch and, when it is that of a long CRL alone, what must be sent ahead of it."""

    request: PublishRequest
    long_crl: LongCrl | None

    @property
    def entries(self) -> tuple[PublishedEntry, ...]:
        """What is in it."""
        return self.request.entries

    @property
    def position(self) -> int:
        """What the reader reaches with it."""
        return self.request.position


@dataclass(slots=True)
class _InFlight:
    position: int
    task: asyncio.Task[int]
    oldest_at: float | None


def own_log_name(node: str, log_id: bytes, *, is_shared: bool) -> str:
    """Return what a node's change log is called at others: ``node`` is its URI; a log that several
    nodes share goes by its own name.
    """
    return f"{SHARED_LOG}{log_id.hex()}" if is_shared else node


def source_name(
    log_name: str, log_id: bytes, spec: PublisherSpec, authority_ids: Mapping[str, str]
) -> str:
    """Return how the receiver files our position.

    It carries a digest of what is published, and of which log: with another set of CAs, other
    options or a store that was made anew the position starts at zero, and what the receiver has
    already is applied again without effect.
    """
    chosen = sorted(f"{name}={authority_ids.get(name, '')}" for name in spec.authorities)
    options = [*sorted(spec.content), *(["only_revoked"] if spec.only_revoked else [])]
    text = "\n".join([log_id.hex(), *chosen, *options])
    return f"{log_name}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _published_kinds(spec: PublisherSpec) -> tuple[ChangeKind, ...]:
    """Return which entries of the log are read for a publisher."""
    kinds = [ChangeKind.AUTHORITY, *(ChangeKind(k) for k in spec.content if k != "certificate")]
    if not spec.only_revoked and {"certificate", "status"} & {*spec.content}:
        kinds.append(ChangeKind.CERTIFICATE)
    return tuple(kinds)


class Publisher:
    """Run with ``run()`` in a task of its own; cancel the task to stop."""

    def __init__(
        self,
        spec: PublisherSpec,
        *,
        own_log: OwnLog,
        store: Writer,
        caller: PeerCalls,
        changed: ChangeSignal,
        authority_ids: Callable[[], Mapping[str, str]],
        clock: Clock,
        turn: Turn | None = None,
    ) -> None:
        """With a ``turn`` the store is shared."""
        self.spec = spec
        self._node = own_log.node
        self._is_shared = turn is not None
        self._provenance = own_log.provenance
        self._begin = own_log.begin
        self.ahead = 0
        """Up to where the peer knows our log while that is more than we do; else 0."""
        self._log_id = b""
        self._following = ""
        self._turn: Turn = turn or OnlyTurn(store)
        self._told_at = 0.0
        self._asked_at = 0.0
        self._store = store
        self._receipts = Receipts(store, clock)
        self._caller = caller
        self._changed = changed
        self._authority_ids = authority_ids
        self._clock = clock
        self.peer = NodeIdentity.parse(spec.peer)
        self._position = 0
        # Ours lies ahead of it where nothing in between was for the peer.
        self._acknowledged = 0
        self._last_position = 0
        self._oldest_waiting_at: float | None = None
        self._state = "connecting"
        self._last_error: str | None = None
        self._verified_at: int | None = None
        self._differences = 0
        self._contained = Containment("publisher", clock=clock)

    async def run(self) -> None:
        """Publish until cancelled; a failing peer is asked again with a growing pause."""
        pause = _RETRY_SECONDS
        while True:
            try:
                with self._contained.around(self.spec.name):
                    self._log_id = (await self._store.heads()).log_id
                    self._following = self._source()
                    await self._turn.take(self._key(), self._is_behind)
                    await self._resume_measured()
                    pause = _RETRY_SECONDS
                    await self._follow()
            except TurnLost as reason:
                self._state, self._last_error = "standby", None
                log.info("publisher stands by", publisher=self.spec.name, reason=str(reason))
                continue
            except _OtherSource:
                continue
            except (NodeAgentError, TimeoutError) as error:
                self._state, self._last_error = "waiting", str(error)
                self._turn.failed()
                log.info("publisher waits", publisher=self.spec.name, reason=str(error))
            await self._clock.sleep(max(pause, self._contained.pause_seconds(self.spec.name)))
            pause = min(pause * 2, _RETRY_CAP_SECONDS)

    def snapshot(self) -> PublisherSnapshot:
        """Return how far this publisher is."""
        waiting = self._oldest_waiting_at
        lag = self._last_position - self._position
        return PublisherSnapshot(
            name=self.spec.name,
            peer=self.spec.peer,
            position=self._position,
            last_position=self._last_position,
            lag_entries=max(lag, 0),
            lag_seconds=max(self._clock.now() - waiting, 0.0)
            if waiting is not None and lag > 0
            else 0.0,
            state=self._state,
            last_error=self._last_error,
            verified_at=self._verified_at,
            differences=self._differences,
        )

    def verified(self, at: int, differences: int) -> None:
        """Note what a comparison left different."""
        self._verified_at, self._differences = at, differences

    async def is_peer_ahead(self) -> bool:
        """Tell whether the peer has applied more than our log holds: ours is an old copy."""
        position = await self._ask_position()
        self._hold_against(position)
        return self.ahead > 0

    def recovered(self) -> None:
        """Note that our log goes on above all that the peer has applied."""
        if self.ahead:
            self._last_error = None
        self._begin, self.ahead = None, 0

    async def _ask_position(self, *, has_sent_all: bool = False) -> int:
        names = self.spec.authorities
        told = names if "status" in self.spec.content else ()
        partial = told if self.spec.only_revoked else self._provenance.partial(told)
        request = PositionRequest(
            source=self._source(),
            authorities=names,
            age_seconds=self._provenance.age_seconds(names) if has_sent_all else None,
            complete=tuple(name for name in told if name not in partial),
            partial=partial,
            path=(*self._provenance.path(names), self._log_name()),
        )
        answer = await self._caller.call(
            PUBLISH_POSITION, request, peers=[self.peer], timeout_seconds=_CALL_SECONDS
        )
        self._asked_at = self._clock.monotonic()
        self._last_position = await self._store.last_position()
        if answer.position > self._known_end():
            peer = PeerIdentity.named(self.peer)
            await self._receipts.check(peer, request.source, answer.position, answer.receipt)
        return answer.position

    async def _resume_measured(self) -> None:
        """Resume, and know meanwhile how far behind the peer is: it may not answer for a day."""
        if not self._position:
            # We have only just started; what the peer acknowledged before is in the store.
            self._position = await self._store.publisher_position(self._key())
        await self._measure_lag()
        resuming = asyncio.create_task(self._resume(), name=f"resume-{self.spec.name}")
        try:
            while not (await asyncio.wait([resuming], timeout=BEAT_SECONDS))[0]:
                await self._measure_lag()
            resuming.result()
        finally:
            resuming.cancel()
            await asyncio.gather(resuming, return_exceptions=True)

    async def _measure_lag(self) -> None:
        after, last = self._position, await self._store.last_position()
        self._last_position = last
        if self._oldest_waiting_at is not None or last <= after:
            return
        waiting, _ = await self._read(after, limit=1)
        if self._position != after:
            return  # it has answered meanwhile: what it says counts
        if waiting:
            self._oldest_waiting_at = waiting[0].at
        else:
            self._position = last

    async def _resume(self) -> None:
        """Take up where the receiver's committed position says, whatever ours says."""
        position = await self._ask_position()
        position = self._acknowledged = await self._rename_if_set_back(position)
        self._position = min(position, self._last_position)
        # Tell it, as soon as that is so, that it is up to date.
        self._asked_at = float("-inf")
        self._state, self._last_error = "up", None
        self._hold_against(position)

    async def _rename_if_set_back(self, position: int) -> int:
        """Return where to take up; begin again where our log is an old copy of the one that the
        peer knows, and only repeats what others record: its positions would mean other entries.
        """
        last = self._known_end()
        if position <= last or self._provenance.is_own(self.spec.authorities):
            return position
        self._begin = None
        log.warning("change log renamed", publisher=self.spec.name, peer_has=position, here=last)
        self._log_id = await self._store.renew_log(self._log_id)
        self._following = self._source()
        return await self._ask_position()

    def _known_end(self) -> int:
        """Return up to where our log is surely the one that the peer knows."""
        last = self._last_position
        return last if self._begin is None else min(self._begin, last)

    def _hold_against(self, position: int) -> None:
        """Find out whether the peer knows more of our log than we do: our store is an old copy.

        Until the first answer we hold it against where the log ended at our start: what was
        recorded since would hide it. The peer takes in nothing below its position, and what we
        would say of older entries may be out of date, so no repair goes there, and the CAs do
        nothing (``recovery.py``) until an operator decides.
        """
        last = self._known_end()
        self.ahead = position if position > last else 0
        if not self.ahead:
            self._begin = None
            return
        self._last_error = (
            f"{self.spec.peer} has applied {position} entries of this log, which had {last}: this "
            "store was restored from an old copy; run `peersys recover`"
        )
        log.error("peer knows a newer log", publisher=self.spec.name, reason=self._last_error)

    async def _follow(self) -> None:
        """Send what follows the position, wait for more, and so on, until something fails."""
        in_flight: deque[_InFlight] = deque()
        # What was read lies ahead of what the peer was told where nothing in between is for it.
        told = read = self._position
        try:
            while True:
                seen = self._changed.count
                if len(in_flight) < _BATCHES_IN_FLIGHT:
                    batch = await self._next_batch(read, told=told)
                    if batch is not None:
                        read = batch.position
                        while batch.long_crl is not None and in_flight:
                            await self._settle(in_flight)
                        if batch.entries or in_flight:
                            told = read
                            oldest_at = batch.entries[0].at if batch.entries else None
                            in_flight.append(_InFlight(read, self._send(batch), oldest_at))
                        else:
                            self._position = read
                        if batch.long_crl is not None and in_flight:
                            await self._settle(in_flight)
                        continue
                if in_flight:
                    await self._settle(in_flight)
                else:
                    self._oldest_waiting_at = None
                    if await self._changed.wait(seen, _LOOK_AGAIN_SECONDS):
                        await self._clock.sleep(_GATHER_SECONDS)
                    elif self._clock.monotonic() - self._asked_at >= _ASK_AGAIN_SECONDS:
                        await self._look_back()
        finally:
            for sent in in_flight:
                sent.task.cancel()
            await asyncio.gather(*(sent.task for sent in in_flight), return_exceptions=True)

    async def _settle(self, in_flight: deque[_InFlight]) -> None:
        while not (await asyncio.wait([in_flight[0].task], timeout=BEAT_SECONDS))[0]:
            await self._tell(self._position)
        batch = in_flight.popleft()
        committed = batch.task.result()
        if committed < batch.position:
            raise NodeAgentError(
                f"{self.spec.peer} committed up to {committed}, not {batch.position}"
            )
        self._position = self._acknowledged = batch.position
        # What is the oldest that waits now moves on with every batch, however many follow.
        self._oldest_waiting_at = next(
            (sent.oldest_at for sent in in_flight if sent.oldest_at is not None), None
        )
        if not in_flight or self._clock.monotonic() - self._told_at >= BEAT_SECONDS:
            await self._tell(self._position)

    async def _look_back(self) -> None:
        """Notice a peer that was restored from an old copy while there was nothing to send."""
        position = await self._ask_position(has_sent_all=True)
        if position < self._acknowledged:
            raise NodeAgentError(
                f"{self.spec.peer} was set back from {self._acknowledged} to {position}"
            )
        self._last_error = None
        self._hold_against(position)

    async def _tell(self, position: int) -> None:
        """Let the other nodes of the store know how far the peer is."""
        self._told_at = self._clock.monotonic()
        await self._turn.keep(self._key(), position)

    async def _is_behind(self, position: int) -> bool:
        """Tell whether anything for the peer lies above ``position``, while another publishes."""
        self._state, self._last_error = "standby", None
        self._position = max(position, self._position)
        while True:
            request = await self._next_batch(self._position, told=self._position)
            if request is None:
                self._oldest_waiting_at = None
                return False
            if request.entries:
                return True
            self._position = request.position

    def _send(self, batch: _Batch) -> asyncio.Task[int]:
        request = batch.request

        async def send() -> int:
            if batch.long_crl is not None:
                await self._send_ahead(batch.long_crl)
            answer = await self._caller.call(
                PUBLISH, request, peers=[self.peer], timeout_seconds=_CALL_SECONDS
            )
            return answer.position

        return asyncio.create_task(send(), name=f"publish-{self.spec.name}-{request.position}")

    async def _send_ahead(self, crl: LongCrl) -> None:
        names = {identifier: name for name, identifier in self._authority_ids().items()}

        async def send(
            request: ContentRequest, body: Callable[[], AsyncIterator[bytes]] | None
        ) -> int:
            answer = await self._caller.call(
                PUBLISH_CONTENT,
                request,
                peers=[self.peer],
                timeout_seconds=_CONTENT_SECONDS,
                body=body,
            )
            return answer.held

        await send_content(self._store, crl, names[crl.record.authority_id], send)

    async def _next_batch(self, after: int, *, told: int) -> _Batch | None:
        last = await self._store.last_position()
        self._last_position = last
        if last <= after:
            return None
        if self._source() != self._following:
            raise _OtherSource(f"{self.spec.name} publishes something else now")
        entries, is_end = await self._read(after)
        long_crl, entries, end = await self._part_long_crl(entries, last if is_end else None)
        chosen, position = _cut_batch(entries, end)
        if chosen and self._oldest_waiting_at is None:
            self._oldest_waiting_at = chosen[0].at
        published = tuple([entry for item in chosen async for entry in self._published(item)])
        source = self._source()
        request = PublishRequest(
            source=source,
            after=told,
            position=position,
            authorities=self.spec.authorities,
            entries=published,
            receipt=await self._receipts.make(source, position),
        )
        return _Batch(request, long_crl)

    async def _read(self, after: int, *, limit: int = 0) -> tuple[list[ChangeEntry], bool]:
        """Return what follows ``after`` for the peer, and whether that is all."""
        names = self._authority_ids()
        if not limit:
            limit = _REVOKED_BATCH_ENTRIES if self.spec.only_revoked else _BATCH_ENTRIES
        entries = await self._store.changes(
            after,
            limit=limit,
            authority_ids=[names[name] for name in self.spec.authorities if name in names],
            kinds=_published_kinds(self.spec),
        )
        return entries, len(entries) < limit

    async def _part_long_crl(
        self, entries: list[ChangeEntry], end: int | None
    ) -> tuple[LongCrl | None, list[ChangeEntry], int | None]:
        """Return the entries up to the first long CRL; or that CRL and its entry alone when it is
        the first. One that has been replaced since is left out: a newer one comes behind it.
        """
        if "crl" not in self.spec.content:
            return None, entries, end
        kept: list[ChangeEntry] = []
        for entry in entries:
            try:
                long_crl = await find_long_crl(self._store, entry)
            except NotFound:
                continue
            if long_crl is None:
                kept.append(entry)
            elif kept:
                return None, kept, None
            else:
                return long_crl, [replace(entry, payload=long_crl.payload)], None
        if end is None and entries:
            # What was left out at the end is passed all the same.
            end = entries[-1].position
        return None, kept, end

    async def _published(self, entry: ChangeEntry) -> AsyncIterator[PublishedEntry]:
        """Yield the entry as this publisher's options have it, what it takes to read it ahead."""
        if entry.kind is ChangeKind.CERTIFICATE and "certificate" not in self.spec.content:
            payload = decode(entry.kind, entry.payload)
            assert isinstance(payload, CertificatePayload)
            yield self._certificate(entry, payload)
            return
        if entry.kind is ChangeKind.STATUS and self.spec.only_revoked:
            assert entry.serial is not None
            record = await self._store.certificate(entry.authority_id, entry.serial)
            if record is not None:
                yield self._certificate(entry, certificate_payload(record))
        yield _on_its_way(entry, entry.kind, entry.payload)

    def _certificate(self, entry: ChangeEntry, payload: CertificatePayload) -> PublishedEntry:
        chosen = payload if "certificate" in self.spec.content else status_only(payload)
        return _on_its_way(entry, ChangeKind.CERTIFICATE, encode(chosen))

    def _log_name(self) -> str:
        return own_log_name(self._node, self._log_id, is_shared=self._is_shared)

    def _source(self) -> str:
        return source_name(self._log_name(), self._log_id, self.spec, self._authority_ids())

    def _key(self) -> str:
        """Return how the store files our position: for another peer or content it is another."""
        what = f"{self.spec.peer} {self._source()}"
        return f"{self.spec.name} {hashlib.sha256(what.encode()).hexdigest()[:16]}"


def _on_its_way(entry: ChangeEntry, kind: ChangeKind, payload: bytes) -> PublishedEntry:
    return PublishedEntry(
        position=entry.position,
        kind=kind.value,
        authority_id=entry.authority_id,
        serial=None if entry.serial is None else serial_octets(entry.serial),
        at=entry.at,
        payload=payload,
    )


def _cut_batch(entries: list[ChangeEntry], end: int | None) -> tuple[list[ChangeEntry], int]:
    """Return the entries that fit one batch and the position that they lead to.

    ``end`` is the position of the log's end when ``entries`` reach it.
    """
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.payload)
        if size > _BATCH_BYTES and count:
            return entries[:count], entries[count - 1].position
    newest = entries[-1].position if entries else 0
    return entries, newest if end is None else max(newest, end)
