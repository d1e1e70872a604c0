"""The store beside bare bulk inserts of the same rows: ``python -m benchmarks.bench_store``.

The bare side knows all rows beforehand, decides nothing, hashes nothing and answers nobody: it is
what the database itself allows. Both sides commit durably, into the same tables with the same
indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import secrets
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

from benchmarks.measure import (
    Bar,
    Benchmark,
    Contestant,
    Reading,
    RunSettings,
    judge,
    run_benchmark,
)
from node_agent.pki.crl import entry_encoder
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateStatus, StatusChange
from node_agent.store.schema import audit_log, certificate_names, certificates, change_log
from tests.support.postgres import PostgresCluster
from tests.support.store_records import AUTHORITY, audit, certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from node_agent.store.records import CertificateRecord, ChangeEntry

__all__ = ["BENCHMARKS", "main"]

OURS = "record_issuance, 50 callers"
BARE = "bare executemany, transactions of 50"
PUBLISHED = "apply_published, batches of 500"
PUBLISHED_BARE = "bare executemany, transactions of 500"
CALLERS = 50
BATCH = 500
TABLES = (certificates, certificate_names, change_log, audit_log)
PUBLISHED_TABLES = TABLES[:3]
_CPU = "cpu_us"


def _records(count: int) -> list[CertificateRecord]:
    """Random serials, names and request ids: what makes an index grow at every place at once."""
    records = []
    for number in range(count):
        name = f"{secrets.token_hex(6)}.example.org"
        records.append(
            certificate(
                number,
                serial=secrets.randbits(158),
                names=(name,),
                subject=f"CN={name}",
                der=os.urandom(600),
                request_id=os.urandom(16),
            )
        )
    return records


async def _issue_all(store: Store, records: Sequence[CertificateRecord]) -> None:
    waiting = iter(records)
    payload = os.urandom(700)

    async def caller() -> None:
        for record in waiting:
            await store.record_issuance(record, payload, audit())

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


async def _publish_all(
    store: Store, records: Sequence[CertificateRecord], changes: Sequence[ChangeEntry]
) -> None:
    position = 0
    for batch, entries in zip(_batches(records), _batches(changes), strict=True):
        position += len(batch)
        await store.apply_published("ca", position, certificates=batch, entries=entries)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _measure_issuance(databases: Any, count: int, kept: dict[str, Any]) -> Reading:
    records = _records(count)

    async def measured(url: str) -> Reading:
        async with open_store(url) as store:
            reading = await _timed(_issue_all(store, records), count)
            assert (await store.verify_audit()).entries == count
            kept["changes"] = await store.changes(0, limit=count)
        return reading

    with databases() as url:
        reading = asyncio.run(measured(url))
        kept["rows"] = {table.name: _rows(url, table) for table in TABLES}
    kept["records"] = records
    return reading


def _measure_published(databases: Any, kept: dict[str, Any]) -> Reading:
    records, changes = kept["records"], kept["changes"]

    async def measured(url: str) -> Reading:
        async with open_store(url) as store:
            reading = await _timed(_publish_all(store, records, changes), len(records))
            assert await store.last_position() == len(records)
        return reading

    with databases() as url:
        return asyncio.run(measured(url))


async def _timed(work: Any, count: int) -> Reading:
    started, used = time.perf_counter(), time.process_time()
    await work
    seconds = time.perf_counter() - started
    return Reading(count / seconds, {_CPU: (time.process_time() - used) / count * 1e6})


def _measure_bare(
    databases: Any, kept: dict[str, Any], tables: Sequence[sa.Table], size: int
) -> Reading:
    with databases() as url:
        asyncio.run(_make_schema(url))
        connection, mark = _connect(url)
        with contextlib.closing(connection):
            return _insert(connection, mark, [(t, kept["rows"][t.name]) for t in tables], size)


def _insert(connection: Any, mark: str, tables: Sequence[Any], size: int) -> Reading:
    cursor = connection.cursor()
    count = len(tables[0][1])
    started, used = time.perf_counter(), time.process_time()
    for start in range(0, count, size):
        cursor.execute("BEGIN")
        for table, rows in tables:
            share = len(rows) // count  # a certificate has a fixed number of names here
            marks = ",".join([mark] * len(table.columns))
            statement = f"INSERT INTO {table.name} VALUES ({marks})"
            cursor.executemany(statement, rows[start * share : (start + size) * share])
        cursor.execute("COMMIT")
    seconds = time.perf_counter() - started
    return Reading(count / seconds, {_CPU: (time.process_time() - used) / count * 1e6})


def _connect(url: str) -> tuple[Any, str]:
    if not url.startswith("sqlite"):
        return psycopg.connect(url, autocommit=True), "%s"
    connection = sqlite3.connect(sa.make_url(url).database or "", isolation_level=None)
    for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 8000"):
        connection.execute(f"PRAGMA {setting}")
    return connection, "?"


def _rows(url: str, table: sa.Table) -> list[Any]:
    connection, _ = _connect(url)
    with contextlib.closing(connection):
        order = "certificate_id" if table is certificate_names else "1"
        return list(connection.execute(f"SELECT * FROM {table.name} ORDER BY {order}").fetchall())


async def _make_schema(url: str) -> None:
    async with open_store(url):
        pass


@contextlib.contextmanager
def _sqlite(directory: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=directory) as place:
        yield f"sqlite:///{place}/store.sqlite3"


@contextlib.contextmanager
def _contestants(settings: RunSettings, *, database: str) -> Iterator[Sequence[Contestant]]:
    with contextlib.ExitStack() as stack:
        databases: Any = partial(_sqlite, settings.directory)
        if database == "postgresql":
            cluster = PostgresCluster(durable=True)
            stack.callback(cluster.remove)
            cluster.start()
            databases = cluster.database
        kept: dict[str, Any] = {}
        count = int(settings.seconds * 5000)
        measures: dict[str, Callable[[], Reading]] = {
            OURS: partial(_measure_issuance, databases, count, kept),
            BARE: partial(_measure_bare, databases, kept, TABLES, CALLERS),
            PUBLISHED: partial(_measure_published, databases, kept),
            PUBLISHED_BARE: partial(_measure_bare, databases, kept, PUBLISHED_TABLES, BATCH),
        }
        yield [Contestant(name=name, measure=measure) for name, measure in measures.items()]


def _benchmark(database: str) -> Benchmark:
    return Benchmark(
        name=f"store-{database}",
        title=f"Store on {database}",
        unit="certificates/s",
        method="The same random rows into the same tables and indexes; durable commits.",
        prepare=partial(_contestants, database=database),
        bars=(
            Bar(ours=OURS, other=BARE, factor=0.3),
            Bar(ours=PUBLISHED, other=PUBLISHED_BARE, factor=0.3),
        ),
        programs=("postgres",) if database == "postgresql" else (),
    )


BENCHMARKS = {database: _benchmark(database) for database in ("sqlite", "postgresql")}


async def _measure_reads(url: str, count: int) -> dict[str, float]:
    """Return microseconds per point read, and how a long revocation list streams."""
    records = _records(count)
    figures: dict[str, float] = {}
    async with open_store(url) as store:
        position = itertools.count(1)
        for batch in _batches(records):
            revoked = [_revocation(record) for record in batch]
            await store.apply_published("ca", next(position), certificates=batch, statuses=revoked)
        started = time.perf_counter()
        for record in records[:5000]:
            assert await store.certificate(AUTHORITY, record.serial) is not None
        figures["certificate(), us"] = (time.perf_counter() - started) / 5000 * 1e6
        tracemalloc.start()
        started = time.perf_counter()
        listed = 0
        async for entries in store.revoked(AUTHORITY, entry_encoder(is_delta=False)):
            listed += entries.count
        figures["revoked(), entries/s"] = listed / (time.perf_counter() - started)
        figures["revoked(), peak MB"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        assert listed == count
    return figures


def _revocation(record: CertificateRecord) -> StatusChange:
    return StatusChange(
        authority_id=record.authority_id,
        serial=record.serial,
        status=CertificateStatus.REVOKED,
        at=record.issued_at,
        reason=1,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every reading, the ratios with their bars, and the reads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_store", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rows", type=int, default=100_000, help="certificates for the reads")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        settings = RunSettings(
            directory=Path(directory), rounds=options.rounds, seconds=options.seconds
        )
        for database in options.only:
            outcome = run_benchmark(BENCHMARKS[database], settings, progress=print)
            for name, readings in outcome.readings.items():
                cpu = sorted(reading.figure(_CPU) for reading in readings)[len(readings) // 2]
                print(f"{database}: {name}: {cpu:.0f} us of CPU each")
            for verdict in judge(outcome):
                print(f"{database}: {verdict.bar.ours} / bare: {verdict.median:.2f}")
        with _sqlite(settings.directory) as url:
            for name, figure in asyncio.run(_measure_reads(url, options.rows)).items():
                print(f"sqlite, {options.rows:,} certificates: {name}: {figure:,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
