"""Revocation, hold and release; what a CRL is made from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import Conflict, NotFound
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateStatus, ChangeKind, RevokedRow
from node_agent.store.schema import pack_serial
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD, HOLD, REVOKED = CertificateStatus.GOOD, CertificateStatus.ON_HOLD, CertificateStatus.REVOKED


async def collect(chunks: AsyncIterator[list[RevokedRow]]) -> list[RevokedRow]:
    return [row async for chunk in chunks for row in chunk]


async def issue(store: Store, *numbers: int) -> None:
    await asyncio.gather(*(store.record_issuance(certificate(n), b"", audit()) for n in numbers))


def test_revocation_is_stored_with_its_change_and_audit_entry(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1)
            change = status(1, at=1_700_100_000, reason=4, invalidity_at=1_700_050_000)
            position = await store.record_status(change, b"revoked", audit("ra.revoke"))
            record = await store.certificate(AUTHORITY, change.serial)
            assert record is not None
            assert (record.status, record.revoked_at) == (REVOKED, 1_700_100_000)
            assert (record.reason, record.invalidity_at) == (4, 1_700_050_000)
            (entry,) = await store.changes(1, limit=10)
            assert (entry.position, entry.kind, entry.payload) == (2, ChangeKind.STATUS, b"revoked")
            assert (position, entry.serial, entry.at) == (2, change.serial, change.at)
            assert [e.record.action for e in await store.audit_entries()] == [
                "ra.enroll",
                "ra.revoke",
            ]

    run(scenario())


@pytest.mark.parametrize(
    ("steps", "allowed"),
    [
        ((REVOKED,), True),
        ((HOLD,), True),
        ((GOOD,), False),
        ((HOLD, GOOD), True),
        ((HOLD, REVOKED), True),
        ((HOLD, HOLD), False),
        ((HOLD, GOOD, REVOKED), True),
        ((REVOKED, GOOD), False),
        ((REVOKED, HOLD), False),
        ((REVOKED, REVOKED), False),
    ],
)
def test_only_the_steps_of_rfc_5280_are_taken(
    store_url: str, steps: tuple[CertificateStatus, ...], allowed: bool
) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1)
            for wanted in steps[:-1]:
                await store.record_status(status(1, wanted), b"", audit())
            last = store.record_status(status(1, steps[-1]), b"", audit())
            if allowed:
                assert await last == len(steps) + 1
                return
            with pytest.raises(Conflict):
                await last
            assert await store.last_position() == len(steps)

    run(scenario())


def test_released_certificate_keeps_no_trace_of_its_hold(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1)
            await store.record_status(status(1, HOLD, reason=6), b"", audit())
            await store.record_status(status(1, GOOD), b"", audit())
            assert await store.certificate(AUTHORITY, certificate(1).serial) == certificate(1)

    run(scenario())


def test_status_of_an_unknown_certificate_fails_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1)
            unknown, known = await asyncio.gather(
                store.record_status(status(2), b"", audit()),
                store.record_status(status(1), b"", audit()),
                return_exceptions=True,
            )
            assert isinstance(unknown, NotFound)
            assert known == 2

    run(scenario())


def test_certificate_may_be_revoked_in_the_batch_that_issues_it(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await asyncio.gather(
                store.record_issuance(certificate(1), b"", audit()),
                store.record_status(status(1, HOLD), b"", audit()),
                store.record_status(status(1, REVOKED), b"", audit()),
            )
            record = await store.certificate(AUTHORITY, certificate(1).serial)
            assert record is not None
            assert record.status is REVOKED
            assert await store.last_position() == 3

    run(scenario())


def test_simultaneous_revocations_make_one_entry(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1)
            outcomes = await asyncio.gather(
                *(store.record_status(status(1), b"", audit()) for _ in range(10)),
                return_exceptions=True,
            )
            assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2]
            assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9

    run(scenario())


def test_revoked_lists_revoked_and_held_certificates_by_serial(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, *range(6))
            await store.record_issuance(certificate(9, authority_id="b" * 32), b"", audit())
            await store.record_status(status(9, authority_id="b" * 32), b"", audit())
            await store.record_status(status(1, reason=4), b"", audit())
            await store.record_status(status(2, HOLD, reason=6), b"", audit())
            await store.record_status(status(3, HOLD), b"", audit())
            await store.record_status(status(3, GOOD), b"", audit())
            rows = await collect(store.revoked(AUTHORITY, list))
            assert rows == sorted(rows)
            assert {(row[0], row[1], row[3]) for row in rows} == {
                (pack_serial(certificate(1).serial), REVOKED, 4),
                (pack_serial(certificate(2).serial), HOLD, 6),
            }

    run(scenario())


def test_revoked_since_adds_released_holds_for_a_delta_crl(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1, 2, 3, 4)
            await store.record_status(status(1, at=300), b"", audit())
            base = await store.record_status(status(2, HOLD, at=300), b"", audit())
            # The clock is set back: what decides is the place in the change log.
            await store.record_status(status(3, at=200), b"", audit())
            await store.record_status(status(2, GOOD, at=201), b"", audit())
            rows = {
                row[0]: row for row in await collect(store.revoked(AUTHORITY, list, since=base))
            }
            released = pack_serial(certificate(2).serial)
            assert set(rows) == {released, pack_serial(certificate(3).serial)}
            assert rows[released][1:] == (GOOD, None, None, None, 201)

    run(scenario())


def test_revoked_comes_in_chunks(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.store.reader.REVOKED_CHUNK", 10)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, *range(30))
            await asyncio.gather(*(store.record_status(status(n), b"", audit()) for n in range(30)))
            chunks = [chunk async for chunk in store.revoked(AUTHORITY, list)]
            assert [len(chunk) for chunk in chunks if chunk] == [10, 10, 10]
            serials = [row[0] for chunk in chunks for row in chunk]
            assert serials == sorted(pack_serial(certificate(n).serial) for n in range(30))

    run(scenario())


def test_of_many_certificates_those_that_are_not_good_are_found(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await issue(store, 1, 2, 3)
            await store.record_status(status(2), b"", audit())
            await store.record_status(status(3, HOLD), b"", audit())
            asked = [(AUTHORITY, certificate(number).serial) for number in range(1, 1000)]
            found = await store.revoked_among(asked)
            assert found == {asked[1], asked[2]}
            assert await store.revoked_among([("b" * 32, asked[1][1])]) == set()
            assert await store.revoked_among([(AUTHORITY, -1), (AUTHORITY, 1 << 160)]) == set()
            assert await store.revoked_among([]) == set()

    run(scenario())
