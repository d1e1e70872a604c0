"""Long CRLs on their way to a peer: in pieces, ahead of the batch that makes them count.

A batch of the change log is one message, and a message has a size. So an entry of a long CRL only
names it, by the digest of the whole, and its pieces go ahead in the bodies of ``publish.content``
requests. The receiver stores each piece as it comes and says how much it has: a transfer that is
cut goes on from there, and one that is repeated does nothing. The batch then commits the CRL
together with its position, if the pieces are all there, have the digest, and bear the CA's
signature. Neither end ever holds more than a few pieces.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from node_agent.errors import Conflict, NodeAgentError, NotFound, PolicyDenied, RequestRefused
from node_agent.functions.change_payloads import (
    CrlPayload,
    crl_in_pieces,
    crl_record,
    decode,
    encode,
)
from node_agent.functions.held_crls import check_crl
from node_agent.peers.operations import ContentAnswer, ContentRequest
from node_agent.pki.der import DerError
from node_agent.store.contents import CHUNK_OCTETS
from node_agent.store.records import ChangeKind, CrlContent, CrlRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.peers.context import Context
    from node_agent.store.api import Reader, Writer
    from node_agent.store.records import ChangeEntry

__all__ = ["INLINE_OCTETS", "ContentReceiver", "LongCrl", "find_long_crl", "send_content"]

INLINE_OCTETS: Final = 512 * 1024
"""Up to here a CRL (some 13,000 entries) travels in its batch and stands in its row."""

MOST_OCTETS: Final = 1024 * 1024 * 1024
"""Some 25 million entries. What is announced as more is refused before any of it is stored."""

_SEGMENT_OCTETS: Final = 32 * CHUNK_OCTETS
"""What one request carries: its answer is sure to come in time at 300 kbit/s and more."""

_CHUNKS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class LongCrl:
    """A CRL whose pieces must be at the peer before ``payload`` may be published."""

    record: CrlRecord
    content: CrlContent
    payload: bytes

    def request(self, authority: str, offset: int) -> ContentRequest:
        """Return the announcement of what follows ``offset``."""
        return ContentRequest(
            authority=authority,
            authority_id=self.record.authority_id,
            number=self.record.number,
            is_delta=self.record.base_number is not None,
            shard=self.record.shard,
            sha256=self.content.sha256,
            octets=self.content.octets,
            offset=offset,
        )


async def find_long_crl(store: Reader, entry: ChangeEntry) -> LongCrl | None:
    """Return what must be sent ahead of an entry, None when nothing must.

    Raises NotFound for a long CRL that newer ones have replaced: those are in the log behind it.
    """
    if entry.kind is not ChangeKind.CRL:
        return None
    payload = decode(entry.kind, entry.payload)
    assert isinstance(payload, CrlPayload)
    record = crl_record(entry.authority_id, payload)
    if record.content is None:
        if len(record.der) <= INLINE_OCTETS:
            return None
        # Its signature brought it over the line: the entry itself carries the list.
        digest = hashlib.sha256(record.der).digest()
        content = CrlContent(sha256=digest, octets=len(record.der))
        return LongCrl(record, content, encode(crl_in_pieces(payload, content)))
    held = await store.held_octets(record.authority_id, record.content.sha256)
    if held != record.content.octets:
        raise NotFound("the CRL has been replaced by a newer one")
    return LongCrl(record, record.content, entry.payload)


async def send_content(
    store: Reader,
    crl: LongCrl,
    authority: str,
    send: Callable[[ContentRequest, Callable[[], AsyncIterator[bytes]] | None], Awaitable[int]],
) -> None:
    """Have the peer store what it lacks of ``crl``. ``send`` returns how much the peer has.

    Raises what ``send`` raises, NotFound when the CRL is replaced meanwhile, NodeAgentError when
    the peer takes nothing.
    """
    held = await send(crl.request(authority, 0), None)
    while held < crl.content.octets:
        before, offset = held, held - held % CHUNK_OCTETS
        segment = partial(_segment, store, crl.record, offset)
        held = await send(crl.request(authority, offset), segment)
        if held <= before:
            raise NodeAgentError(f"the peer stores nothing of CRL {crl.record.number}")


async def _segment(store: Reader, record: CrlRecord, offset: int) -> AsyncIterator[bytes]:
    sent = 0
    async for piece in store.crl_pieces(record, offset=offset):
        yield piece
        sent += len(piece)
        if sent >= _SEGMENT_OCTETS:
            return


class ContentReceiver:
    """Handles PUBLISH_CONTENT, and judges what it brought when a batch makes it count."""

    def __init__(self, store: Writer, known: KnownAuthorities) -> None:
        self._store = store
        self._known = known
        self._locks: dict[str, asyncio.Lock] = {}

    async def receive(self, context: Context, request: ContentRequest) -> ContentAnswer:
        """Store the pieces in the request's body; answer how much of the CRL is here.

        Raises PolicyDenied for a CA that the request doesn't name, RequestRefused for more than
        was announced, Conflict when pieces before these are missing.
        """
        authority = self._known.get(request.authority_id)
        if authority is None or authority.name != request.authority:
            raise PolicyDenied(f"{request.authority_id} isn't {request.authority}", rule="publish")
        _check_request(request)
        newest = await self._store.latest_crl(
            request.authority_id, shard=request.shard, delta=request.is_delta
        )
        if newest is not None and newest.number >= request.number:
            return ContentAnswer(held=request.octets)
        async with self._locks.setdefault(request.authority_id, asyncio.Lock()):
            return ContentAnswer(held=await self._take(context.body, request))

    async def is_superseded(self, crl: CrlRecord) -> bool:
        """Tell whether a CRL this new or newer is here already."""
        newest = await self._store.latest_crl(
            crl.authority_id, shard=crl.shard, delta=crl.base_number is not None
        )
        return newest is not None and newest.number >= crl.number

    async def check(self, authority: KnownAuthority, crl: CrlRecord) -> None:
        """Raise Conflict unless all of a long CRL is here, RequestRefused unless it is what its
        record says and its CA signed it. What isn't is forgotten.
        """
        content = crl.content
        assert content is not None
        held = await self._store.held_octets(crl.authority_id, content.sha256)
        if held != content.octets:
            raise Conflict(f"{held} of {content.octets} octets of CRL {crl.number} are here")
        try:
            await check_crl(self._store, authority, crl)
        except DerError as error:
            await self._store.drop_crl_chunks(crl.authority_id, content.sha256)
            raise RequestRefused(f"CRL {crl.number}: {error}", field="entries") from error

    async def _take(self, body: AsyncIterator[bytes], request: ContentRequest) -> int:
        held = await self._store.held_octets(request.authority_id, request.sha256)
        if request.offset > held:
            raise Conflict(f"{held} octets are here, the pieces begin at {request.offset}")
        if held >= request.octets:
            return held
        skip = held - request.offset
        waiting = bytearray()
        async for data in body:
            waiting += data[skip:] if skip else data
            skip = max(0, skip - len(data))
            if held + len(waiting) > request.octets:
                raise RequestRefused("more follows than was announced", field="octets")
            if len(waiting) >= _CHUNKS_AT_ONCE * CHUNK_OCTETS:
                held += await self._put(request, held, waiting)
        while waiting and (len(waiting) >= CHUNK_OCTETS or held + len(waiting) == request.octets):
            held += await self._put(request, held, waiting)
        return held

    async def _put(self, request: ContentRequest, held: int, waiting: bytearray) -> int:
        """Store what makes whole pieces of ``waiting`` and take it out; return how much it was."""
        size = len(waiting)
        if held + size < request.octets:
            size -= size % CHUNK_OCTETS
        chunks = [
            bytes(waiting[at : min(at + CHUNK_OCTETS, size)]) for at in range(0, size, CHUNK_OCTETS)
        ]
        first = held // CHUNK_OCTETS
        await self._store.put_crl_chunks(request.authority_id, request.sha256, first, chunks)
        del waiting[:size]
        return size


def _check_request(request: ContentRequest) -> None:
    if not INLINE_OCTETS < request.octets <= MOST_OCTETS:
        raise RequestRefused(f"a CRL of {request.octets} octets isn't sent so", field="octets")
    if request.offset % CHUNK_OCTETS or not 0 <= request.offset <= request.octets:
        raise RequestRefused("the offset isn't that of a piece", field="offset")
    if len(request.sha256) != hashlib.sha256().digest_size:
        raise RequestRefused("the digest isn't one", field="sha256")
