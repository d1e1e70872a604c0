"""One CRL from what the store knows: streamed from rows to DER, signed by the CA's key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from node_agent.functions.crl_transfer import INLINE_OCTETS
from node_agent.pki.crl import CrlWriter
from node_agent.store.contents import CHUNK_OCTETS
from node_agent.store.records import CrlContent, CrlHead, CrlRecord, CrlStart

if TYPE_CHECKING:
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.pki.crl import CrlToBeSigned
    from node_agent.store.api import Writer

__all__ = ["make_crl"]

# A revocation is stamped before it is committed: one that was under way while the base was made is
# on the delta although its time lies before the base's.
_COMMIT_SLACK_SECONDS = 300


async def make_crl(
    store: Writer,
    authorities: Authorities,
    authority: LoadedAuthority,
    *,
    start: CrlStart,
    now: int,
    validity_seconds: int,
    base: CrlHead | None,
) -> CrlRecord:
    """Return a new full CRL of ``authority``, or with ``base`` a delta CRL on it.

    Its number was taken before (``start``) and is never given out again: a CRL that fails to be
    made leaves a gap, which RFC 5280 section 5.2.3 allows, and never a number that goes backward.
    """
    with CrlWriter(
        authority.issuer,
        number=start.number,
        this_update=now,
        next_update=now + validity_seconds,
        base_number=base.number if base else None,
    ) as writer:
        since = base.this_update - _COMMIT_SLACK_SECONDS if base else None
        async for entries in store.revoked(authority.authority_id, since=since):
            writer.add(entries)
        finished = writer.finish()
        signature = await authorities.sign_crl(authority, finished)
        is_long = finished.tbs_bytes > INLINE_OCTETS
        return CrlRecord(
            authority_id=authority.authority_id,
            number=start.number,
            this_update=now,
            next_update=now + validity_seconds,
            der=b"" if is_long else finished.complete(signature),
            base_number=base.number if base else None,
            content=await _put_pieces(store, authority.authority_id, finished, signature)
            if is_long
            else None,
        )


async def _put_pieces(
    store: Writer, authority_id: str, finished: CrlToBeSigned, signature: bytes
) -> CrlContent:
    """Store a long list piece by piece, before the row that will make it count."""
    digest, octets = hashlib.sha256(), 0
    for piece in finished.pieces(signature):
        digest.update(piece)
        octets += len(piece)
    sha256, first, waiting = digest.digest(), 0, bytearray()
    for piece in finished.pieces(signature):
        waiting += piece
        whole = len(waiting) - len(waiting) % CHUNK_OCTETS
        if whole:
            await _put(store, authority_id, sha256, first, waiting[:whole])
            first += whole // CHUNK_OCTETS
            del waiting[:whole]
    await _put(store, authority_id, sha256, first, waiting)
    return CrlContent(sha256=sha256, octets=octets)


async def _put(
    store: Writer, authority_id: str, sha256: bytes, first: int, data: bytearray
) -> None:
    chunks = [bytes(data[at : at + CHUNK_OCTETS]) for at in range(0, len(data), CHUNK_OCTETS)]
    if chunks:
        await store.put_crl_chunks(authority_id, sha256, first, chunks)
