"""The change log as its readers see it: in order, filtered, and without gaps that fill later."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from node_agent.store import Store, open_store
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate

OTHER = "b" * 32


def test_changes_continue_behind_a_position(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in range(10):
                await store.record_issuance(certificate(number), b"%d" % number, audit())
            first = await store.changes(0, limit=4)
            rest = await store.changes(first[-1].position, limit=100)
            assert [entry.payload for entry in first + rest] == [b"%d" % n for n in range(10)]
            assert [entry.position for entry in first + rest] == list(range(1, 11))
            assert await store.changes(10, limit=100) == []

    run(scenario())


def test_changes_of_some_authorities_only(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in range(6):
                owner = (AUTHORITY, OTHER, "c" * 32)[number % 3]
                await store.record_issuance(certificate(number, authority_id=owner), b"", audit())
            positions = {
                owners: [e.position for e in await store.changes(0, limit=9, authority_ids=owners)]
                for owners in ((AUTHORITY,), (AUTHORITY, OTHER), ())
            }
            assert positions == {(AUTHORITY,): [1, 4], (AUTHORITY, OTHER): [1, 2, 4, 5], (): []}

    run(scenario())


def test_reader_never_skips_a_position_that_two_nodes_write(store_url: str) -> None:
    async def write(store: Store, first: int) -> None:
        for start in range(first, first + 300, 10):
            batch = (certificate(n) for n in range(start, start + 10))
            await asyncio.gather(*(store.record_issuance(r, b"", audit()) for r in batch))

    async def follow(store: Store) -> list[int]:
        seen: list[int] = []
        while len(seen) < 600:
            last = seen[-1] if seen else 0
            seen += [entry.position for entry in await store.changes(last, limit=50)]
        return seen

    async def scenario() -> None:
        async with open_store(store_url) as one, open_store(store_url) as two:
            seen, _, _ = await asyncio.gather(follow(one), write(one, 0), write(two, 5000))
            assert seen == list(range(1, 601))

    run(scenario(), timeout_seconds=50)


@pytest.mark.parametrize("table", ["change_log", "audit_log"])
@pytest.mark.parametrize(
    ("store_url", "statement"),
    [
        ("sqlite", "UPDATE {table} SET {column} = {column}"),
        ("sqlite", "DELETE FROM {table}"),
        ("postgresql", "UPDATE {table} SET {column} = {column}"),
        ("postgresql", "DELETE FROM {table}"),
        ("postgresql", "TRUNCATE {table}"),
    ],
    indirect=["store_url"],
)
def test_logs_refuse_change_and_removal(store_url: str, table: str, statement: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_issuance(certificate(1), b"", audit())
            column = "position" if table == "change_log" else "sequence"
            text = sa.text(statement.format(table=table, column=column))
            with (
                pytest.raises(DBAPIError, match="append-only"),
                store._writing.begin() as connection,
            ):
                connection.execute(text)
            assert len(await store.changes(0, limit=5)) == len(await store.audit_entries()) == 1

    run(scenario())
