"""Batches from an upstream change log: idempotent, in order, whatever was known before."""

from __future__ import annotations

import dataclasses

from node_agent.store import Store, open_store
from node_agent.store.records import (
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    ChangeKind,
)
from node_agent.store.schema import pack_serial
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, crl, status

GOOD, HOLD, REVOKED = CertificateStatus.GOOD, CertificateStatus.ON_HOLD, CertificateStatus.REVOKED


def entry(
    position: int,
    payload: bytes = b"payload",
    *,
    number: int | None = None,
    kind: ChangeKind = ChangeKind.CERTIFICATE,
) -> ChangeEntry:
    """Return an entry about ``certificate(number)``, which is that of the position by default."""
    return ChangeEntry(
        position=position,
        kind=kind,
        authority_id=AUTHORITY,
        serial=certificate(position if number is None else number).serial,
        at=1000 + position,
        payload=payload,
    )


def without_request(record: CertificateRecord) -> CertificateRecord:
    return dataclasses.replace(record, request_id=b"")


async def stored(store: Store, number: int = 1) -> CertificateRecord:
    record = await store.certificate(AUTHORITY, certificate(number).serial)
    assert record is not None
    return record


def test_batch_is_applied_with_its_position(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            applied = await store.apply_published(
                "ca1",
                7,
                certificates=[certificate(1), certificate(2)],
                statuses=[status(2)],
                crls=[crl(3), crl(3, base_number=2)],
                entries=[entry(5, number=1), entry(7, b"other", number=2)],
            )
            assert applied == await store.source_position("ca1") == 7
            assert await stored(store, 1) == without_request(certificate(1))
            assert (await stored(store, 2)).status is REVOKED
            assert await store.latest_crl(AUTHORITY) == crl(3)
            changes = await store.changes(0, limit=10)
            assert [change.position for change in changes] == [1, 2]
            assert [change.at for change in changes] == [1005, 1007]
            assert changes[1] == dataclasses.replace(entry(7, b"other", number=2), position=2)

    run(scenario())


def test_repeated_batch_changes_nothing(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            for _ in range(3):
                applied = await store.apply_published(
                    "ca1",
                    2,
                    certificates=[certificate(1)],
                    crls=[crl(1)],
                    entries=[entry(2, number=1)],
                )
                assert applied == 2
            assert await store.apply_published("ca1", 1, statuses=[status(1)]) == 2
            assert (await stored(store)).status is GOOD
            assert await store.last_position() == 1

    run(scenario())


def test_overlapping_batch_adds_only_what_is_new(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published(
                "ca1",
                2,
                certificates=[certificate(1), certificate(2)],
                entries=[entry(1), entry(2)],
            )
            await store.apply_published(
                "ca1",
                3,
                certificates=[certificate(1), certificate(2), certificate(3)],
                crls=[crl(1)],
                entries=[entry(1), entry(2), entry(3)],
            )
            assert await store.last_position() == 3
            assert len(await store.search(CertificateQuery())) == 3

    run(scenario())


def test_what_comes_by_two_ways_goes_on_once(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            statement = ChangeKind.STATUS
            said = [entry(1), entry(2, number=1, kind=statement), entry(3)]
            authority = dataclasses.replace(entry(4), kind=ChangeKind.AUTHORITY, serial=None)
            listed = dataclasses.replace(entry(5), kind=ChangeKind.CRL, serial=None)
            for source in ("ca1", "va1"):
                await store.apply_published(
                    source,
                    5,
                    certificates=[certificate(1), certificate(3)],
                    statuses=[status(1)],
                    crls=[crl(1)],
                    entries=[*said, authority, listed],
                )
                kinds = [item.kind.value for item in await store.changes(0, limit=10)]
                assert kinds == ["certificate", "status", "certificate", "authority", "crl"]
            await store.apply_published(
                "va1", 6, statuses=[status(3)], entries=[entry(6, number=3, kind=statement)]
            )
            assert await store.last_position() == 6

    run(scenario())


def test_a_release_that_is_older_than_the_hold_releases_nothing(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, certificates=[certificate(1)])
            await store.apply_published("ca1", 2, statuses=[status(1, HOLD, at=300)])
            await store.apply_published("va1", 1, statuses=[status(1, GOOD, at=200)])
            assert (await stored(store)).status is HOLD
            await store.apply_published("va1", 2, statuses=[status(1, GOOD, at=300)])
            assert (await stored(store)).status is GOOD
            await store.apply_published("va1", 3, statuses=[status(1, HOLD, at=100)])
            assert (await stored(store)).status is HOLD

    run(scenario())


def test_status_of_an_absent_certificate_makes_a_status_only_row(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, statuses=[status(1, reason=4)])
            record = await stored(store)
            assert (record.der, record.subject, record.names) == (b"", "", ())
            assert (record.status, record.reason, record.revoked_at) == (REVOKED, 4, status(1).at)
            chunks = [chunk async for chunk in store.revoked(AUTHORITY, list)]
            assert [row[0] for chunk in chunks for row in chunk] == [
                pack_serial(certificate(1).serial)
            ]

    run(scenario())


def test_certificate_that_comes_later_fills_a_status_only_row(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, statuses=[status(1)])
            await store.apply_published("ca1", 2, certificates=[certificate(1)])
            record = await stored(store)
            assert record == dataclasses.replace(
                without_request(certificate(1)),
                status=REVOKED,
                revoked_at=status(1).at,
                reason=1,
            )
            assert await store.search(CertificateQuery(name="host-1.example.org")) == [record]

    run(scenario())


def test_status_only_certificate_never_empties_a_full_one(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, certificates=[certificate(1)])
            bare = certificate(1, der=b"", subject="", names=(), status=HOLD, revoked_at=5)
            await store.apply_published("ca1", 2, certificates=[bare])
            record = await stored(store)
            assert (record.der, record.status) == (certificate(1).der, HOLD)

    run(scenario())


def test_statuses_of_one_batch_are_applied_in_order(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            steps = [status(1, HOLD), status(1, GOOD), status(1, HOLD, at=9), status(2, HOLD)]
            await store.apply_published(
                "ca1", 1, certificates=[certificate(1), certificate(2)], statuses=steps
            )
            await store.apply_published("ca1", 2, statuses=[status(2, GOOD)])
            assert ((await stored(store, 1)).status, (await stored(store, 2)).status) == (
                HOLD,
                GOOD,
            )
            assert (await stored(store, 1)).revoked_at == 9

    run(scenario())


def test_revocation_stays_final_whatever_is_published(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published(
                "ca1", 1, certificates=[certificate(1)], statuses=[status(1)]
            )
            await store.apply_published("ca1", 2, statuses=[status(1, GOOD)])
            await store.apply_published("ca1", 3, certificates=[certificate(1)])
            assert (await stored(store)).status is REVOKED

    run(scenario())


def test_older_crl_never_replaces_a_newer_one(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, crls=[crl(5)])
            await store.apply_published("ca1", 2, crls=[crl(4), crl(5)])
            assert await store.latest_crl(AUTHORITY) == crl(5)

    run(scenario())


def test_two_sources_have_their_own_positions(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            same_request = certificate(2, request_id=certificate(1).request_id)
            await store.apply_published("ca1", 9, certificates=[certificate(1)])
            await store.apply_published("ca2", 1, certificates=[same_request])
            assert await store.source_position("ca1") == 9
            assert await store.source_position("ca2") == 1
            assert await store.source_position("ca3") == 0
            assert await stored(store, 2) == without_request(same_request)

    run(scenario())


def test_published_request_ids_do_not_answer_own_requests(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_published("ca1", 1, certificates=[certificate(1)])
            own = certificate(2, request_id=certificate(1).request_id, authority_id="b" * 32)
            assert not (await store.record_issuance(own, b"", audit())).repeated

    run(scenario())
