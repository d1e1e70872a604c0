"""CRLs: numbers that only grow, and the newest of each kind."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.errors import Conflict
from node_agent.store import Store, open_store
from node_agent.store.records import ChangeKind, CrlRecord
from node_agent.store.schema import pack_serial
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, crl, status


async def next_number(store: Store, authority_id: str = AUTHORITY, shard: int = 0) -> int:
    return (await store.begin_crl(authority_id, shard=shard)).number


def test_newest_crl_of_each_kind_is_returned(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            assert await store.latest_crl(AUTHORITY) is None
            for record in (crl(1), crl(2, base_number=1), crl(3), crl(3, base_number=1)):
                await store.record_crl(record, b"payload")
            assert await store.latest_crl(AUTHORITY) == crl(3)
            assert await store.latest_crl(AUTHORITY, delta=True) == crl(3, base_number=1)
            assert await store.latest_crl("b" * 32) is None

    run(scenario())


def test_crl_is_stored_with_its_change_entry(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            assert await store.record_crl(crl(7), b"payload") == 1
            (entry,) = await store.changes(0, limit=10)
            assert (entry.kind, entry.serial, entry.payload) == (ChangeKind.CRL, None, b"payload")

    run(scenario())


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (crl(5), crl(5)),
        (crl(5), crl(4)),
        (crl(5), crl(4, base_number=3)),
        (crl(5, base_number=4), crl(5, base_number=4)),
        (crl(5, base_number=4), crl(4)),
    ],
)
def test_crl_number_that_is_not_new_is_a_conflict(
    store_url: str, earlier: CrlRecord, later: CrlRecord
) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_crl(earlier, b"")
            with pytest.raises(Conflict, match="number"):
                await store.record_crl(later, b"")
            assert await store.last_position() == 1

    run(scenario())


def test_crl_numbers_are_never_given_twice(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as one, open_store(store_url) as two:
            numbers = await asyncio.gather(
                *(next_number(store) for store in (one, two) for _ in range(20))
            )
            assert sorted(numbers) == list(range(1, 41))
            assert await next_number(one, "b" * 32) == 1

    run(scenario())


def test_next_number_is_above_every_recorded_one(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_crl(crl(10), b"")
            assert await next_number(store) == 11
            await store.record_crl(crl(11), b"")
            assert await next_number(store) == 12

    run(scenario())


def test_each_shard_has_its_own_lists_and_numbers(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for shard in (0, 1, 2):
                await store.record_crl(crl(5 + shard, shard=shard), b"")
            assert [await next_number(store, shard=shard) for shard in (0, 1, 2)] == [6, 7, 8]
            for shard in (0, 1, 2):
                assert await store.latest_crl(AUTHORITY, shard=shard) == crl(5 + shard, shard=shard)
            assert await store.latest_crl(AUTHORITY, shard=3) is None

    run(scenario())


def test_a_revocation_concerns_the_crl_of_its_shard(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number, shard in ((1, 1), (2, 2), (3, 2)):
                await store.record_issuance(certificate(number, crl_shard=shard), b"", audit())
            await store.record_status(status(3), b"", audit())
            assert await store.uncovered_shards(AUTHORITY) == {2}
            chunks = [chunk async for chunk in store.revoked(AUTHORITY, list, shard=2)]
            assert [row[0] for row in chunks[0]] == [pack_serial(certificate(3).serial)]
            assert [chunk async for chunk in store.revoked(AUTHORITY, list, shard=1)] == [[]]

    run(scenario())


def test_a_list_is_begun_no_earlier_than_its_predecessors(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_crl(crl(1, this_update=500), b"")
            await store.record_crl(crl(2, base_number=1, this_update=700), b"")
            assert (await store.begin_crl(AUTHORITY)).not_before == 700
            # Two of one address have two dates.
            assert (await store.begin_crl(AUTHORITY, delta=True)).not_before == 701

    run(scenario())


def test_old_crls_are_dropped(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in range(1, 9):
                await store.record_crl(crl(number, der=b"x" * 1000), b"")
            with store._writing.connect() as connection:
                rows = connection.exec_driver_sql("SELECT number FROM crls ORDER BY number").all()
            assert [row[0] for row in rows] == [7, 8]

    run(scenario())
