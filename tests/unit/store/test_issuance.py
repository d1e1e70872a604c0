"""Issuances: stored with their change-log and audit entries, once per request id."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.errors import Conflict, StoreError
from node_agent.store import open_store
from node_agent.store.records import ChangeKind
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate


def test_issuance_is_stored_with_its_change_and_audit_entry(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            record = certificate(1, names=("a.example.org", "ü.example.org"))
            outcome = await store.record_issuance(record, b"payload", audit())
            assert (outcome.certificate, outcome.repeated, outcome.position) == (record, False, 1)
            assert await store.certificate(AUTHORITY, record.serial) == record
            (change,) = await store.changes(0, limit=10)
            assert (change.position, change.kind) == (1, ChangeKind.CERTIFICATE)
            assert (change.serial, change.payload) == (record.serial, b"payload")
            (entry,) = await store.audit_entries()
            assert entry.record == audit()
            assert await store.last_position() == 1

    run(scenario())


def test_everything_is_there_after_a_restart(store_url: str) -> None:
    async def scenario() -> None:
        records = [certificate(number) for number in range(20)]
        async with open_store(store_url) as store:
            for record in records:
                await store.record_issuance(record, b"", audit())
        async with open_store(store_url) as store:
            for record in records:
                assert await store.certificate(AUTHORITY, record.serial) == record
            assert await store.last_position() == 20
            assert (await store.verify_audit()).ok

    run(scenario())


def test_repeated_request_id_returns_the_stored_certificate(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            again = certificate(2, request_id=first.request_id, request_digest=first.request_digest)
            await store.record_issuance(first, b"first", audit())
            outcome = await store.record_issuance(again, b"again", audit())
            assert (outcome.certificate, outcome.repeated, outcome.position) == (first, True, 1)
            assert await store.certificate(AUTHORITY, again.serial) is None
            assert len(await store.changes(0, limit=10)) == 1
            assert len(await store.audit_entries()) == 1
            found = await store.certificate_by_request(first.origin, first.request_id)
            assert found == first

    run(scenario())


def test_request_that_comes_over_another_ra_is_a_repeat(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            same = {"request_id": first.request_id, "request_digest": first.request_digest}
            over_another = certificate(2, origin="spiffe://pki.test/node/ra2", **same)
            await store.record_issuance(first, b"first", audit())
            outcome = await store.record_issuance(over_another, b"again", audit())
            assert (outcome.certificate, outcome.repeated, outcome.position) == (first, True, 1)
            assert await store.last_position() == 1

    run(scenario())


def test_requests_over_two_ras_at_once_come_to_one_certificate(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            same = {"request_id": first.request_id, "request_digest": first.request_digest}
            over_another = certificate(2, origin="spiffe://pki.test/node/ra2", **same)
            outcomes = await asyncio.gather(
                *(store.record_issuance(one, b"", audit()) for one in (first, over_another))
            )
            assert outcomes[0].certificate == outcomes[1].certificate
            assert await store.last_position() == 1

    run(scenario())


def test_request_id_that_another_ra_used_for_something_else_tells_nothing(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            other = certificate(2, origin="spiffe://pki.test/node/ra2", request_id=first.request_id)
            elsewhere = certificate(
                3,
                origin="spiffe://pki.test/node/ra3",
                authority_id="b" * 32,
                request_id=first.request_id,
                request_digest=first.request_digest,
            )
            for record in (first, other, elsewhere):
                assert not (await store.record_issuance(record, b"", audit())).repeated

    run(scenario())


def test_request_id_reused_for_another_request_is_refused(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            await store.record_issuance(first, b"", audit())
            other = certificate(2, request_id=first.request_id)
            with pytest.raises(Conflict, match="request id"):
                await store.record_issuance(other, b"", audit())
            assert await store.last_position() == 1

    run(scenario())


def test_request_ids_of_different_origins_are_different(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            first = certificate(1)
            other = certificate(
                2, request_id=first.request_id, origin="spiffe://example.org/node/ra2"
            )
            await store.record_issuance(first, b"", audit())
            assert not (await store.record_issuance(other, b"", audit())).repeated

    run(scenario())


def test_simultaneous_repeats_make_one_certificate(store_url: str) -> None:
    async def scenario() -> None:
        first = certificate(0)
        tries = [
            certificate(n, request_id=first.request_id, request_digest=first.request_digest)
            for n in range(40)
        ]
        async with open_store(store_url) as store:
            outcomes = await asyncio.gather(
                *(store.record_issuance(record, b"", audit()) for record in tries)
            )
            assert len({outcome.certificate.serial for outcome in outcomes}) == 1
            assert [outcome.repeated for outcome in outcomes].count(False) == 1
            assert await store.last_position() == 1

    run(scenario())


def test_two_nodes_on_one_database_answer_a_request_id_once(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as one, open_store(store_url) as two:
            pairs = [
                (certificate(n), certificate(n + 1000, **_request_of(certificate(n))))
                for n in range(50)
            ]
            outcomes = await asyncio.gather(
                *(one.record_issuance(left, b"", audit()) for left, _ in pairs),
                *(two.record_issuance(right, b"", audit()) for _, right in pairs),
            )
            for left, right in zip(outcomes[:50], outcomes[50:], strict=True):
                assert left.certificate == right.certificate
                assert left.position == right.position
                assert left.repeated != right.repeated
            assert await one.last_position() == await two.last_position() == 50
            assert (await one.verify_audit()).entries == 50

    run(scenario())


def test_certificates_without_request_id_are_all_stored(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in (1, 2):
                record = certificate(number, request_id=b"", request_digest=b"")
                assert not (await store.record_issuance(record, b"", audit())).repeated
            assert await store.certificate_by_request(certificate(1).origin, b"") is None

    run(scenario())


@pytest.mark.parametrize("serial", [0, 1, 2**63, 2**64 + 5, 2**159 - 1, 2**160 - 1])
def test_serial_numbers_of_any_allowed_size_are_kept(store_url: str, serial: int) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            record = certificate(1, serial=serial)
            await store.record_issuance(record, b"", audit())
            assert await store.certificate(AUTHORITY, serial) == record

    run(scenario())


@pytest.mark.parametrize("serial", [-1, 2**160])
def test_serial_number_that_cannot_be_stored_is_refused_alone(store_url: str, serial: int) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            bad = store.record_issuance(certificate(1, serial=serial), b"", audit())
            good = store.record_issuance(certificate(2), b"", audit())
            refused, stored = await asyncio.gather(bad, good, return_exceptions=True)
            assert isinstance(refused, StoreError)
            assert not isinstance(stored, BaseException)
            assert stored.position == 1
            assert await store.certificate(AUTHORITY, serial) is None
            assert (await store.verify_audit()).entries == 1

    run(scenario())


def test_serial_number_issued_twice_is_a_conflict_and_fails_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            records = [certificate(n) for n in range(10)]
            records.append(certificate(99, serial=records[3].serial))
            outcomes = await asyncio.gather(
                *(store.record_issuance(record, b"", audit()) for record in records),
                return_exceptions=True,
            )
            assert isinstance(outcomes[-1], Conflict)
            assert not any(isinstance(outcome, BaseException) for outcome in outcomes[:-1])
            assert await store.last_position() == 10
            assert (await store.verify_audit()).ok

    run(scenario())


def test_same_serial_of_two_authorities_is_two_certificates(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            left, right = certificate(1), certificate(2, authority_id="b" * 32)
            right = certificate(2, authority_id="b" * 32, serial=left.serial)
            await store.record_issuance(left, b"", audit())
            await store.record_issuance(right, b"", audit())
            assert await store.certificate("b" * 32, left.serial) == right

    run(scenario())


def _request_of(record: object) -> dict[str, bytes]:
    names = ("request_id", "request_digest")
    return {name: getattr(record, name) for name in names}
