"""One CRL from what the store knows: streamed from rows to DER, signed by the CA's key.

What grows with the list (reading, encoding, hashing) is done in threads, in pieces: links and
answers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from node_agent.clock import LAST_SECOND
from node_agent.functions.crl_transfer import INLINE_OCTETS
from node_agent.pki.crl import CrlWriter, entry_encoder
from node_agent.pki.crl_points import delta_urls, issuing_urls
from node_agent.store.contents import CHUNK_OCTETS
from node_agent.store.records import CrlContent, CrlHead, CrlRecord, CrlStart

if TYPE_CHECKING:
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.pki.crl import CrlToBeSigned
    from node_agent.store.api import Writer

__all__ = ["make_crl"]


async def make_crl(
    store: Writer,
    authorities: Authorities,
    authority: LoadedAuthority,
    *,
    shard: int,
    start: CrlStart,
    now: int,
    base: CrlHead | None,
) -> CrlRecord:
    """Return a new full CRL of a shard of ``authority``, or with ``base`` a delta CRL on it.

    Its number was taken before (``start``) and is never given out again: a CRL that fails to be
    made leaves a gap, which RFC 5280 section 5.2.3 allows, and never a number that goes backward.
    Nor does thisUpdate, when the clock was set back.
    """
    spec = authority.spec.crl
    this_update = max(now, start.not_before)
    life = spec.validity_seconds if base is None else spec.delta_validity_seconds
    next_update = min(this_update + life, LAST_SECOND)
    with _writer(authority, shard, start.number, this_update, next_update, base) as writer:
        async for entries in store.revoked(
            authority.authority_id,
            entry_encoder(is_delta=writer.is_delta),
            shard=shard,
            since=None if base is None else base.covers,
        ):
            writer.add(entries)
        finished = await asyncio.to_thread(writer.finish)
        signature = await authorities.sign_crl(authority, finished)
        is_long = finished.tbs_bytes > INLINE_OCTETS
        return CrlRecord(
            authority_id=authority.authority_id,
            shard=shard,
            number=start.number,
            this_update=this_update,
            next_update=next_update,
            der=b"" if is_long else finished.complete(signature),
            base_number=base.number if base else None,
            content=await _put_pieces(store, authority.authority_id, finished, signature)
            if is_long
            else None,
        )


def _writer(
    authority: LoadedAuthority,
    shard: int,
    number: int,
    this_update: int,
    next_update: int,
    base: CrlHead | None,
) -> CrlWriter:
    spec, urls = authority.spec.crl, authority.issuer.crl_urls
    has_delta = spec.delta_validity_seconds > 0 and base is None
    return CrlWriter(
        authority.issuer,
        number=number,
        this_update=this_update,
        next_update=next_update,
        base_number=base.number if base else None,
        distribution_point_urls=issuing_urls(urls, shard, shards=spec.shards),
        freshest_urls=delta_urls(urls, shard) if has_delta else (),
    )


async def _put_pieces(
    store: Writer, authority_id: str, finished: CrlToBeSigned, signature: bytes
) -> CrlContent:
    """Store a long list piece by piece, before the row that will make it count."""
    content = await asyncio.to_thread(_content, finished, signature)
    sha256, first, waiting = content.sha256, 0, bytearray()
    for piece in finished.pieces(signature):
        waiting += piece
        whole = len(waiting) - len(waiting) % CHUNK_OCTETS
        if whole:
            await _put(store, authority_id, sha256, first, waiting[:whole])
            first += whole // CHUNK_OCTETS
            del waiting[:whole]
    await _put(store, authority_id, sha256, first, waiting)
    return content


def _content(finished: CrlToBeSigned, signature: bytes) -> CrlContent:
    digest, octets = hashlib.sha256(), 0
    for piece in finished.pieces(signature):
        digest.update(piece)
        octets += len(piece)
    return CrlContent(sha256=digest.digest(), octets=octets)


async def _put(
    store: Writer, authority_id: str, sha256: bytes, first: int, data: bytearray
) -> None:
    chunks = [bytes(data[at : at + CHUNK_OCTETS]) for at in range(0, len(data), CHUNK_OCTETS)]
    if chunks:
        await store.put_crl_chunks(authority_id, sha256, first, chunks)
