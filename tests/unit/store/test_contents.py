"""Long CRLs in pieces: nothing counts before all of it is there, nothing is left behind after."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import Conflict, NotFound
from node_agent.store import open_store
from node_agent.store.contents import CHUNK_OCTETS
from node_agent.store.records import CrlContent, CrlRecord
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, crl

if TYPE_CHECKING:
    from node_agent.store import Store


def long_crl(number: int) -> tuple[CrlRecord, list[bytes]]:
    """Return a CRL of two and a half pieces, and the pieces."""
    der = bytes([number]) * (CHUNK_OCTETS * 5 // 2)
    content = CrlContent(sha256=hashlib.sha256(der).digest(), octets=len(der))
    pieces = [der[at : at + CHUNK_OCTETS] for at in range(0, len(der), CHUNK_OCTETS)]
    return crl(number, der=b"", content=content), pieces


async def put(store: Store, record: CrlRecord, pieces: list[bytes], first: int = 0) -> int:
    assert record.content is not None
    return await store.put_crl_chunks(AUTHORITY, record.content.sha256, first, pieces)


async def stored_pieces(store: Store) -> int:
    with store._writing.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM crl_chunks").scalar_one())


def test_a_crl_in_pieces_is_read_as_it_was_written(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            record, pieces = long_crl(1)
            assert await put(store, record, pieces[:1]) == 1
            assert await put(store, record, pieces[1:], first=1) == 3
            await store.record_crl(record, b"payload")
            latest = await store.latest_crl(AUTHORITY)
            assert latest == record
            whole = b"".join(pieces)
            assert await store.crl_der(latest) == whole
            for offset in (0, 1, CHUNK_OCTETS, CHUNK_OCTETS * 2 + 7, len(whole)):
                found = [piece async for piece in store.crl_pieces(latest, offset=offset)]
                assert b"".join(found) == whole[offset:]

    run(scenario())


def test_a_repeated_piece_changes_nothing_and_a_gap_is_refused(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            record, pieces = long_crl(1)
            assert record.content is not None
            with pytest.raises(Conflict, match="piece 1"):
                await put(store, record, pieces[1:2], first=1)
            await put(store, record, pieces[:2])
            assert await put(store, record, pieces[:2]) == 2
            held = await store.held_octets(AUTHORITY, record.content.sha256)
            assert held == 2 * CHUNK_OCTETS
            assert await put(store, record, pieces[1:], first=1) == 3

    run(scenario())


def test_a_crl_whose_pieces_are_not_all_there_is_refused(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            record, pieces = long_crl(1)
            await put(store, record, pieces[:2])
            with pytest.raises(Conflict, match="octets are stored"):
                await store.record_crl(record, b"")
            assert await store.latest_crl(AUTHORITY) is None
            assert await store.last_position() == 0

    run(scenario())


def test_pieces_go_with_their_crl(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in range(1, 5):
                record, pieces = long_crl(number)
                await put(store, record, pieces)
                await store.record_crl(record, b"")
            assert await stored_pieces(store) == 2 * 3
            first, _ = long_crl(1)
            with pytest.raises(NotFound):
                await store.crl_der(first)

    run(scenario())


def test_at_most_one_transfer_that_never_ended_is_kept(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            kept, pieces = long_crl(1)
            await put(store, kept, pieces)
            await store.record_crl(kept, b"")
            for number in (2, 3, 4):
                given_up, some = long_crl(number)
                await put(store, given_up, some[:1])
            assert await stored_pieces(store) == 3 + 1
            assert given_up.content is not None
            await store.drop_crl_chunks(AUTHORITY, given_up.content.sha256)
            assert kept.content is not None
            await store.drop_crl_chunks(AUTHORITY, kept.content.sha256)
            assert await stored_pieces(store) == 3

    run(scenario())
