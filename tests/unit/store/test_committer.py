"""Group commit: what waits shares a transaction, fails alone, and is never lost or halved."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from node_agent.asker import ASKER
from node_agent.errors import Conflict, NotFound, StoreError
from node_agent.store import Store, committer, open_store
from node_agent.store.records import CertificateQuery
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, status

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def writes_held(url: str) -> Iterator[None]:
    """Keep every writer waiting, as another process in a long transaction would."""
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, isolation_level=None)
        statement = "BEGIN IMMEDIATE"
    else:
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        statement = "SELECT id FROM log_heads FOR UPDATE"
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            yield
            connection.rollback()
    finally:
        engine.dispose()


def count_commits(store: Store) -> list[int]:
    commits: list[int] = []
    event.listen(store._writing, "commit", lambda connection: commits.append(1))
    return commits


async def until_submitted() -> None:
    """Give every new task the one step that it needs to reach the queue."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_writes_that_wait_share_a_transaction(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store, asyncio.TaskGroup() as group:
            commits = count_commits(store)
            with writes_held(store_url):
                tasks = [
                    group.create_task(store.record_issuance(certificate(n), b"", audit()))
                    for n in range(100)
                ]
                await until_submitted()
            await asyncio.gather(*tasks)
            # Whatever the writer had taken before it had to wait, and all the others.
            assert len(commits) <= 2

    run(scenario())


def test_lone_writes_never_wait_for_company(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(committer, "MAX_GATHER_SECONDS", 3600.0)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            for n in range(3):
                await store.record_issuance(certificate(n), b"", audit())
            assert len(await store.audit_entries()) == 3

    run(scenario())


def test_batch_after_a_shared_one_waits_for_company_until_the_store_closes(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            async with open_store(store_url) as store:
                with writes_held(store_url):
                    first = [
                        group.create_task(store.record_issuance(certificate(n), b"", audit()))
                        for n in range(20)
                    ]
                    await until_submitted()
                await asyncio.gather(*first)
                monkeypatch.setattr(committer, "GATHER_SECONDS", 3600.0)
                monkeypatch.setattr(committer, "MAX_GATHER_SECONDS", 3600.0)
                late = group.create_task(store.record_issuance(certificate(99), b"", audit()))
                await until_submitted()
                assert not late.done()
            await late

    run(scenario())


def test_who_writes_alone_does_not_wait_for_the_company_of_others(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store, asyncio.TaskGroup() as group:

            def write(asker: str, number: int) -> asyncio.Task[object]:
                context = contextvars.copy_context()
                context.run(ASKER.set, asker)
                issuance = store.record_issuance(certificate(number), b"", audit())
                return group.create_task(issuance, context=context)

            with writes_held(store_url):
                first = [write("crowd", number) for number in range(20)]
                await until_submitted()
            await asyncio.gather(*first)
            monkeypatch.setattr(committer, "GATHER_SECONDS", 3600.0)
            monkeypatch.setattr(committer, "MAX_GATHER_SECONDS", 3600.0)
            waiting = write("crowd", 98)
            await until_submitted()
            assert not waiting.done()
            await write("alone", 99)
            await waiting

    run(scenario())


def test_answer_comes_only_after_the_commit(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store, asyncio.TaskGroup() as group:
            with writes_held(store_url):
                task = group.create_task(store.record_issuance(certificate(1), b"", audit()))
                done, _ = await asyncio.wait([task], timeout=0.2)
                assert not done
                assert await store.last_position() == 0
            await task
            assert await store.last_position() == 1

    run(scenario())


def test_refused_writes_leave_the_others_of_their_batch_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            reused = certificate(100, request_id=certificate(0).request_id)
            with writes_held(store_url):
                tasks = [
                    asyncio.ensure_future(coroutine)
                    for coroutine in (
                        *(store.record_issuance(certificate(n), b"", audit()) for n in range(20)),
                        store.record_issuance(reused, b"", audit()),
                        store.record_status(status(777), b"", audit()),
                        store.record_status(status(3), b"", audit()),
                        store.record_status(status(3), b"", audit()),
                    )
                ]
                await until_submitted()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            refusals = {i: type(o) for i, o in enumerate(outcomes) if isinstance(o, Exception)}
            assert refusals == {20: Conflict, 21: NotFound, 23: Conflict}
            assert await store.last_position() == 21
            assert (await store.verify_audit()).entries == 21

    run(scenario())


def test_write_that_the_database_refuses_fails_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            impossible = [
                certificate(50, not_after=2**70),
                certificate(51, subject=object()),
                certificate(52, serial=certificate(1).serial),
            ]
            with writes_held(store_url):
                tasks = [
                    asyncio.ensure_future(store.record_issuance(record, b"", audit()))
                    for record in (*impossible, *(certificate(n) for n in range(5)))
                ]
                await until_submitted()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            refused = [index for index, o in enumerate(outcomes) if isinstance(o, Exception)]
            assert refused == [0, 1, 4]
            assert isinstance(outcomes[4], Conflict)
            assert await store.last_position() == 5
            assert (await store.verify_audit()).entries == 5

    run(scenario())


def test_cancelled_callers_leave_whole_writes_or_none(store_url: str) -> None:
    async def scenario() -> None:
        chance = random.Random(7)
        async with open_store(store_url) as store:
            tasks = [
                asyncio.ensure_future(store.record_issuance(certificate(n), b"", audit()))
                for n in range(300)
            ]
            cancelled = chance.sample(range(300), 150)
            for number in cancelled:
                await asyncio.sleep(0)
                tasks[number].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        async with open_store(store_url) as store:
            stored = await store.search(CertificateQuery(limit=1000))
            serials = {record.serial for record in stored}
            for number, outcome in enumerate(outcomes):
                if not isinstance(outcome, asyncio.CancelledError):
                    assert outcome.certificate.serial in serials, number
            changes = await store.changes(0, limit=1000)
            assert {change.serial for change in changes} == serials
            verdict = await store.verify_audit()
            assert (verdict.ok, verdict.entries) == (True, len(serials))

    run(scenario())


def test_cancelled_caller_does_not_hold_a_place_in_the_queue(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.committer.MAX_QUEUED", 3)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            for number in range(10):
                task = asyncio.ensure_future(
                    store.record_issuance(certificate(number), b"", audit())
                )
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            await store.append_audit([audit()])
            assert (await store.verify_audit()).entries == await store.last_position() + 1

    run(scenario())


def test_full_queue_makes_callers_wait_and_then_refuses(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.committer.MAX_QUEUED", 4)
    monkeypatch.setattr("node_agent.store.committer.QUEUE_TIMEOUT_SECONDS", 0.1)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            with writes_held(store_url):
                tasks = [asyncio.ensure_future(store.append_audit([audit()])) for _ in range(6)]
                done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                assert len(waiting) >= 4
                refused = next(iter(done))
                assert isinstance(refused.exception(), StoreError)
                assert "keep up" in str(refused.exception())
            await asyncio.wait(waiting)
            # The second caller above four may have got a place in its last moment.
            stored = [task for task in tasks if task.exception() is None]
            assert (await store.verify_audit()).entries == len(stored) >= 4

    run(scenario())


def test_more_writes_than_places_are_all_committed(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.committer.MAX_QUEUED", 8)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            await asyncio.gather(
                *(store.record_issuance(certificate(n), b"", audit()) for n in range(200))
            )
            assert await store.last_position() == 200

    run(scenario())


def test_close_commits_what_is_queued_and_refuses_what_comes_later(store_url: str) -> None:
    async def scenario() -> None:
        store = open_store(store_url)
        await store.start()
        tasks = [
            asyncio.ensure_future(store.record_issuance(certificate(n), b"", audit()))
            for n in range(400)
        ]
        await asyncio.sleep(0)
        await store.close()
        assert all(task.done() for task in tasks)
        assert {task.result().repeated for task in tasks} == {False}
        with pytest.raises(StoreError, match="closed"):
            await store.append_audit([audit()])
        with pytest.raises(StoreError, match="closed"):
            await store.certificate(AUTHORITY, 1)
        async with open_store(store_url) as again:
            assert await again.last_position() == 400

    run(scenario())


def test_closing_twice_is_harmless(store_url: str) -> None:
    async def scenario() -> None:
        store = open_store(store_url)
        await store.start()
        await store.close()
        await store.close()
        assert store._threads is None

    run(scenario())


def test_store_serves_again_after_writes_were_blocked_too_long(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.engine.BUSY_TIMEOUT_SECONDS", 0.1)

    async def scenario() -> None:
        async with open_store(sqlite_url) as store:
            with writes_held(sqlite_url):
                outcomes = await asyncio.gather(
                    *(store.append_audit([audit()]) for _ in range(50)), return_exceptions=True
                )
                assert {type(outcome) for outcome in outcomes} == {StoreError}
            assert await store.append_audit([audit()]) == 1

    run(scenario())


def test_status_of_an_impossible_serial_number_fails_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            refused, sequence = await asyncio.gather(
                store.record_status(status(1, serial=2**160), b"", audit()),
                store.append_audit([audit()]),
                return_exceptions=True,
            )
            assert isinstance(refused, StoreError)
            assert sequence == 1

    run(scenario())


def test_bulk_writes_do_not_share_one_endless_transaction(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.store.committer.MAX_BATCH_WEIGHT", 10)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            commits = count_commits(store)
            sequences = await asyncio.gather(
                *(store.append_audit([audit()] * size) for size in (6, 6, 25, 3, 3))
            )
            assert sequences == [6, 12, 37, 40, 43]
            assert len(commits) >= 4

    run(scenario())
