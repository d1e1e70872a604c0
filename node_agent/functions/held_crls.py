"""Which CRLs a store of published ones holds: those that are what their CA signed.

A list that was changed past the store is of no use to anybody, and while it stands there its number
says that nothing is lacking. So it is dropped; a comparison then finds it lost, like any other.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import NotFound, RequestRefused
from node_agent.peers.repair_messages import HeldList
from node_agent.pki.crl_check import CrlCheck, CrlFacts
from node_agent.pki.der import DerError

if TYPE_CHECKING:
    from node_agent.functions.known_authorities import KnownAuthority
    from node_agent.store.api import Reader, Writer
    from node_agent.store.records import CrlRecord

__all__ = ["check_crl", "drop_spoilt", "held_lists"]

log = structlog.get_logger(__name__)


async def held_lists(store: Reader, authority_id: str) -> tuple[HeldList, ...]:
    """Return the number of each newest CRL of a CA."""
    numbers = await store.crl_numbers(authority_id)
    return tuple(
        HeldList(shard=shard, is_delta=is_delta, number=number)
        for (shard, is_delta), number in sorted(numbers.items())
    )


async def drop_spoilt(store: Writer, authority: KnownAuthority) -> list[CrlRecord]:
    """Drop the newest CRLs of a CA that aren't what it signed; return those newest instead."""
    left = []
    for shard, is_delta in await store.crl_numbers(authority.authority_id):
        dropped = 0
        while True:
            crl = await store.latest_crl(authority.authority_id, shard=shard, delta=is_delta)
            if crl is None:
                break
            reason = await _what_is_wrong(store, authority, crl)
            if reason is None:
                if dropped:
                    left.append(crl)
                break
            log.warning(
                "CRL dropped: it isn't what its CA signed",
                authority=authority.name,
                shard=shard,
                number=crl.number,
                delta=is_delta,
                reason=reason,
            )
            await store.drop_crl(crl)
            dropped += 1
    return left


async def _what_is_wrong(store: Reader, authority: KnownAuthority, crl: CrlRecord) -> str | None:
    try:
        await check_crl(store, authority, crl)
    except RequestRefused:
        # A key of a kind that only its CA can judge by: the list was accepted once.
        return None
    except DerError as error:
        return str(error)
    except NotFound:
        newest = await store.latest_crl(
            authority.authority_id, shard=crl.shard, delta=crl.base_number is not None
        )
        is_newest = newest is not None and newest.number == crl.number
        return "pieces of it are missing" if is_newest else None
    return None


async def check_crl(store: Reader, authority: KnownAuthority, crl: CrlRecord) -> None:
    """Raise DerError unless a stored CRL is what its row says, and its CA signed it; NotFound when
    pieces of it aren't there; RequestRefused for a key that isn't supported.
    """
    check = CrlCheck(authority.certificate.subject.public_bytes(), authority.spki)
    digest = hashlib.sha256()
    async for piece in store.crl_pieces(crl):
        digest.update(piece)
        check.feed(piece)
    if crl.content is not None and digest.digest() != crl.content.sha256:
        raise DerError("the pieces don't have the announced digest")
    said = CrlFacts(
        number=crl.number,
        base_number=crl.base_number,
        this_update=crl.this_update,
        next_update=crl.next_update,
    )
    if check.finish() != said:
        raise DerError("it isn't what its entry says")
