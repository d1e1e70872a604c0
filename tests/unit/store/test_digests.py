"""Leaves follow their rows, whoever changed them, and issuing marks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node_agent.functions.range_digests import LeafKeeper
from node_agent.store import open_store
from node_agent.store.records import CertificateStatus
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, status

if TYPE_CHECKING:
    from node_agent.store import Store

BY_HAND = {
    "a status": "UPDATE certificates SET status = 'revoked' WHERE id = 3",
    "a time": "UPDATE certificates SET revoked_at = 7 WHERE id = 3",
    "a certificate": "UPDATE certificates SET der = subject_der WHERE id = 3",
    "a removal": "DELETE FROM certificates WHERE id = 3",
    "a serial": "UPDATE certificates SET serial = other_serial WHERE id = 3",
}


async def filled(store: Store, count: int = 5) -> dict[int, tuple[bytes, bytes, int]]:
    for number in range(count):
        await store.record_issuance(certificate(number), b"", audit())
    return await leaves(store)


async def leaves(store: Store) -> dict[int, tuple[bytes, bytes, int]]:
    await LeafKeeper(store).refresh()
    return {row[0]: row[1:] for row in await store.leaves(AUTHORITY)}


def test_leaves_hold_every_certificate_and_no_more(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            assert await leaves(store) == {}
            found = await filled(store)
            assert sum(count for _, _, count in found.values()) == 5
            assert set(found) == {certificate(n).serial >> 144 for n in range(5)}
            assert (await store.pending_leaves()).buckets == {}

    run(scenario())


def test_issuing_marks_nothing(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await filled(store)
            await store.record_issuance(certificate(9), b"", audit())
            pending = await store.pending_leaves()
            assert pending.marks == ()
            assert pending.buckets == {AUTHORITY: [certificate(9).serial >> 144]}

    run(scenario())


def test_a_revocation_changes_the_leaf_of_its_certificate_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await filled(store)
            await store.record_status(status(2), b"", audit())
            after = await leaves(store)
            changed = {bucket for bucket in before if before[bucket] != after[bucket]}
            assert changed == {certificate(2).serial >> 144}
            (bucket,) = changed
            assert before[bucket][1:] == after[bucket][1:]

    run(scenario())


@pytest.mark.parametrize("what", BY_HAND)
def test_what_is_done_by_hand_is_noticed(store_url: str, what: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await filled(store)
            mark = "'\\x{}'" if store_url.startswith("postgresql") else "x'{}'"
            statement = BY_HAND[what]
            statement = statement.replace("subject_der", mark.format("00ff"))
            statement = statement.replace("other_serial", mark.format("7f" * 20))
            with store._writing.begin() as connection:
                connection.exec_driver_sql(statement)
            assert await leaves(store) != before

    run(scenario())


def test_a_row_put_in_by_hand_below_the_newest_number_is_noticed(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await filled(store)
            with store._writing.begin() as connection:
                connection.exec_driver_sql("DELETE FROM certificates WHERE id = 2")
            await leaves(store)
            columns = "id, authority_id, serial, status, not_before, not_after, issued_at, position"
            rest = (
                "profile, requester, origin, via, tenant, request_digest, subject, names, crl_shard"
            )
            serial = ("'\\x{}'" if "postgresql" in store_url else "x'{}'").format("11" * 20)
            with store._writing.begin() as connection:
                connection.exec_driver_sql(
                    f"INSERT INTO certificates ({columns}, {rest}, fingerprint_sha256, der) "
                    f"SELECT 2, authority_id, {serial}, "
                    f"status, 0, 0, 0, 0, '', '', 'x', '', '', request_digest, '', '[]', 0, "
                    f"fingerprint_sha256, der FROM certificates WHERE id = 1"
                )
            after = await leaves(store)
            assert sum(count for _, _, count in after.values()) == 5
            assert after != before

    run(scenario())


def test_forgotten_leaves_are_made_again(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await filled(store)
            await LeafKeeper(store).forget()
            assert await store.leaves(AUTHORITY) == []
            assert await leaves(store) == before

    run(scenario())


def test_entries_are_listed_in_order_and_in_parts(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            found = await filled(store, 30)
            buckets = sorted(found)
            every = await store.entry_digests(AUTHORITY, buckets, after=0, limit=1000)
            assert [item.serial for item in every] == sorted(
                certificate(number).serial for number in range(30)
            )
            part = await store.entry_digests(AUTHORITY, buckets, after=every[9].serial, limit=5)
            assert part == every[10:15]
            assert all(item.certificate for item in every)

    run(scenario())


def test_a_repair_may_take_back_what_a_row_says(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await filled(store)
            await store.record_status(status(1), b"", audit())
            await store.apply_repair(
                AUTHORITY,
                [certificate(1, request_id=b""), certificate(40)],
                removed=[certificate(4).serial, 12345],
                audit=audit("publish.repair"),
            )
            row = await store.certificate(AUTHORITY, certificate(1).serial)
            assert row is not None
            assert row.status is CertificateStatus.GOOD
            assert await store.certificate(AUTHORITY, certificate(4).serial) is None
            assert await store.certificate(AUTHORITY, certificate(40).serial) is not None
            after = await leaves(store)
            bucket = certificate(1).serial >> 144
            assert after[bucket] == before[bucket]
            assert (await store.audit_entries())[-1].record.action == "publish.repair"

    run(scenario())
