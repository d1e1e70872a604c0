"""The audit log: chained, and verified against change, removal, reordering and truncation."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from node_agent.store import AuditHead, Store, open_store
from node_agent.store.audit_chain import GENESIS_HASH
from tests.support.event_loop import run
from tests.support.store_records import audit, certificate

if TYPE_CHECKING:
    from collections.abc import Sequence


async def fill(store: Store, count: int = 10) -> None:
    for number in range(count):
        await store.append_audit([audit(f"act-{number}")])


def tamper(store: Store, statements: Sequence[str]) -> None:
    """Do what somebody with the database's own rights can do, triggers or not."""
    with store._writing.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("ALTER TABLE audit_log DISABLE TRIGGER USER"))
        else:
            for verb in ("update", "delete"):
                connection.execute(sa.text(f"DROP TRIGGER audit_log_refuses_{verb}"))
        for statement in statements:
            connection.execute(sa.text(statement))


def test_entries_are_numbered_in_order_and_read_back(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            denied = audit(
                "ra.enroll", allowed=False, reason="no grant", detail={"b": "2", "a": "1"}
            )
            assert await store.append_audit([audit("first"), denied]) == 2
            assert await store.append_audit([]) == 2
            first, second = await store.audit_entries()
            assert (first.sequence, first.record) == (1, audit("first"))
            assert (second.sequence, second.record) == (2, denied)
            assert [e.sequence for e in await store.audit_entries(after=1, limit=5)] == [2]

    run(scenario())


def test_chain_can_be_checked_by_the_published_rule(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store, 3)
            previous = GENESIS_HASH
            for entry in await store.audit_entries():
                record = entry.record
                body = msgspec.msgpack.encode(
                    [
                        record.at,
                        record.action,
                        record.allowed,
                        record.chain,
                        record.resources,
                        record.reason,
                        dict(sorted(record.detail.items())),
                    ]
                )
                number = entry.sequence.to_bytes(8, "big")
                assert entry.previous_hash == previous
                assert entry.entry_hash == hashlib.sha256(previous + number + body).digest()
                previous = entry.entry_hash
            assert await store.audit_head() == AuditHead(3, previous)

    run(scenario())


@pytest.mark.parametrize("count", [0, 1, 25])
def test_untouched_log_verifies(
    store_url: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.reader.AUDIT_CHUNK", 10)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store, count)
            verdict = await store.verify_audit(checkpoints=[await store.audit_head()])
            assert (verdict.ok, verdict.entries, verdict.first_bad) == (True, count, None)

    run(scenario())


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["UPDATE audit_log SET body = (SELECT body FROM audit_log WHERE sequence = 5) "
          "WHERE sequence = 4"], 4),
        (["DELETE FROM audit_log WHERE sequence = 4"], 4),
        (["DELETE FROM audit_log WHERE sequence = 1"], 1),
        (["DELETE FROM audit_log WHERE sequence > 7"], 8),
        (["DELETE FROM audit_log"], 1),
        (["UPDATE audit_log SET sequence = 99 WHERE sequence = 4",
          "UPDATE audit_log SET sequence = 4 WHERE sequence = 5",
          "UPDATE audit_log SET sequence = 5 WHERE sequence = 99"], 4),
        (["UPDATE audit_log SET sequence = 11 WHERE sequence = 10"], 11),
        (["INSERT INTO audit_log SELECT 11, body, entry_hash, entry_hash FROM audit_log "
          "WHERE sequence = 10"], 11),
        (["UPDATE audit_log SET entry_hash = previous_hash WHERE sequence = 10"], 10),
        (["UPDATE log_heads SET audit_hash = "
          "(SELECT entry_hash FROM audit_log WHERE sequence = 9)"], 11),
    ],
    ids=["changed", "removed", "first-removed", "truncated", "emptied", "reordered", "renumbered",
         "appended", "rehashed", "head-changed"],
)  # fmt: skip
def test_tampering_is_found(store_url: str, statements: list[str], first_bad: int) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store)
            tamper(store, statements)
            verdict = await store.verify_audit()
            assert not verdict.ok
            assert verdict.first_bad == first_bad
            assert verdict.reason

    run(scenario())


def test_log_cut_together_with_its_head_is_found_by_a_checkpoint(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store)
            checkpoint = await store.audit_head()
            heads = "UPDATE log_heads SET audit_sequence = 7, audit_hash = "
            known = "(SELECT entry_hash FROM audit_log WHERE sequence = 7)"
            tamper(store, ["DELETE FROM audit_log WHERE sequence > 7", heads + known])
            assert (await store.verify_audit()).ok
            verdict = await store.verify_audit(checkpoints=[checkpoint])
            assert (verdict.ok, verdict.first_bad) == (False, 8)

    run(scenario())


def test_log_rewritten_from_the_start_is_found_by_a_checkpoint(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await fill(store)
            stranger = AuditHead(5, b"\x01" * 32)
            verdict = await store.verify_audit(checkpoints=[stranger])
            assert (verdict.ok, verdict.first_bad) == (False, 5)

    run(scenario())


def test_two_nodes_keep_one_chain(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as one, open_store(store_url) as two:
            await asyncio.gather(
                *(store.append_audit([audit()]) for store in (one, two) for _ in range(50)),
                *(one.record_issuance(certificate(n), b"", audit()) for n in range(50)),
            )
            verdict = await two.verify_audit()
            assert (verdict.ok, verdict.entries) == (True, 150)

    run(scenario())


def test_detail_that_is_no_text_is_read_back_as_text(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.append_audit([audit(detail={"count": 5})])
            (entry,) = await store.audit_entries()
            assert entry.record.detail == {"count": "5"}

    run(scenario())
