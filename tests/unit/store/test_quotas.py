"""Quotas: counted with what they bound, over all nodes of a store, and by nobody else's doing."""

from __future__ import annotations

import asyncio
from typing import Any

from node_agent.errors import QuotaExceeded
from node_agent.store import open_store
from node_agent.store.records import (
    CertificateQuery,
    CertificateQuota,
    CertificateRecord,
    CertificateStatus,
)
from node_agent.store.schema import tenant_counts
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, status

NOW = 1_700_000_000
HOUR = 3600
DAY = 86400


def quota(
    issued: int | None = None, *, period: int = DAY, valid: int | None = None
) -> CertificateQuota:
    return CertificateQuota(max_issued=issued, issued_period_seconds=period, max_valid=valid)


def owned(number: int, tenant: str = "acme", **fields: Any) -> CertificateRecord:
    return certificate(number, tenant=tenant, **{"issued_at": NOW, **fields})


def test_two_nodes_of_a_store_overrun_no_quota_together(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as one, open_store(store_url) as two:
            bounds = quota(7, valid=9)
            outcomes = await asyncio.gather(
                *(
                    (one, two)[number % 2].record_issuance(
                        owned(number, issued_at=_now(one)), b"", audit(), quota=bounds
                    )
                    for number in range(30)
                ),
                return_exceptions=True,
            )
            issued = [item for item in outcomes if not isinstance(item, BaseException)]
            refused = [item for item in outcomes if isinstance(item, QuotaExceeded)]
            assert (len(issued), len(refused)) == (7, 23)
            query = CertificateQuery(authority_ids=(AUTHORITY,), tenants=("acme",))
            assert len(await two.search(query)) == 7
            assert len(await two.changes(0, limit=100)) == 7

    run(scenario())


def _now(store: Any) -> int:
    """Quotas are counted by the writer's clock; these stores have the real one."""
    return int(store._clock.now())


def test_a_period_moves_on_by_the_hour(sqlite_url: str) -> None:
    async def scenario() -> None:
        clock = ManualClock(now=float(NOW))
        async with open_store(sqlite_url, clock=clock) as store:
            bounds = quota(2, period=2 * HOUR)
            for number, hours, fits in (
                *((1, 0, True), (2, 1, True), (3, 1, False)),
                *((4, 2, True), (5, 2, False), (6, 3, True)),
            ):
                clock.advance(NOW + hours * HOUR - clock.now())
                record = owned(number, issued_at=int(clock.now()))
                try:
                    await store.record_issuance(record, b"", audit(), quota=bounds)
                except QuotaExceeded:
                    assert not fits, number
                else:
                    assert fits, number

    run(scenario())


def test_what_ends_or_is_revoked_is_no_longer_valid(sqlite_url: str) -> None:
    async def scenario() -> None:
        clock = ManualClock(now=float(NOW))
        async with open_store(sqlite_url, clock=clock) as store:
            bounds = quota(valid=2)

            async def fits(number: int, *, days: int = 30) -> bool:
                record = owned(number, not_after=int(clock.now()) + days * DAY)
                try:
                    await store.record_issuance(record, b"", audit(), quota=bounds)
                except QuotaExceeded:
                    return False
                return True

            assert await fits(1, days=1)
            assert await fits(2)
            assert not await fits(3)
            held = status(2, CertificateStatus.ON_HOLD)
            await store.record_status(held, b"", audit())
            assert not await fits(3)
            await store.record_status(status(2), b"", audit())
            assert await fits(3)
            assert not await fits(4)
            clock.advance(2 * DAY)
            assert await fits(4)

    run(scenario())


def test_tenants_dont_count_for_each_other_and_repeats_dont_count(sqlite_url: str) -> None:
    async def scenario() -> None:
        async with open_store(sqlite_url, clock=ManualClock(now=float(NOW))) as store:
            bounds = quota(1)
            for number in range(5):
                await store.record_issuance(owned(number, "beta"), b"", audit())
                await store.record_issuance(owned(number + 10, ""), b"", audit())
            mine = owned(20)
            first = await store.record_issuance(mine, b"", audit(), quota=bounds)
            again = await store.record_issuance(mine, b"", audit(), quota=bounds)
            assert (first.repeated, again.repeated) == (False, True)

    run(scenario())


def test_hours_that_no_quota_looks_at_are_forgotten(sqlite_url: str) -> None:
    async def scenario() -> None:
        clock = ManualClock(now=float(NOW))
        async with open_store(sqlite_url, clock=clock) as store:
            for number in range(40):
                record = owned(number, issued_at=int(clock.now()), not_after=int(clock.now()) + DAY)
                await store.record_issuance(record, b"", audit())
                clock.advance(2 * DAY)
            with store._writing.connect() as connection:
                rows = connection.execute(tenant_counts.select()).all()
            assert len(rows) < 20

    run(scenario())
