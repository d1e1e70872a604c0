"""Publishing from a CA to a VA over the peer link, beside bare bulk inserts of the same rows."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import secrets
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.fixtures import make_csrs
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from benchmarks.profile import record_profiles
from node_agent.functions.change_payloads import certificate_payload, encode
from node_agent.store import open_store
from node_agent.store.records import AuditRecord, CertificateRecord
from tests.support.agents import Agent, Topology
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PUBLISHING"]

OURS = "Peersys, CA -> VA"
BARE = "bare executemany, same rows"

ENTRIES = 20_000
_ROWS_A_TRANSACTION = 500
_TABLES = ("certificates", "certificate_names", "change_log")
_SAMPLE_SECONDS = 0.01


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with Topology(settings.directory / "peersys") as topology:
        model = _issue_one(topology)
        rows = settings.directory / "rows.sqlite3"
        yield [
            Contestant(name=OURS, measure=partial(_publish, topology, model, rows, settings)),
            Contestant(name=BARE, measure=partial(_insert_bare, rows, settings.directory)),
        ]


def _issue_one(topology: Topology) -> x509.Certificate:
    status, answer = topology.rest().enroll(make_csrs(1)[0])
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {answer}")
    return x509.load_pem_x509_certificate(answer["certificate"].encode())


def _publish(
    topology: Topology, model: x509.Certificate, rows: Path, settings: RunSettings
) -> Reading:
    """Write certificates into the stopped CA's store, start it, and watch the VA take them."""
    wait_until(lambda: _lag(topology.ca) == 0, timeout_seconds=60, what="the VA is level")
    authority = topology.ca.admin.state("certification_authorities", "issuing")["authority_id"]
    topology.ca.stop()
    before = _last_rows(topology.va)
    last = asyncio.run(_record(topology.ca, model, authority))
    with contextlib.ExitStack() as stack:
        topology.start_agent(topology.ca)
        if settings.profile_directory is not None:
            processes = {f"publishing-{a.name}": a.running.pid for a in (topology.ca, topology.va)}
            stack.enter_context(
                record_profiles(processes, settings.profile_directory, seconds=settings.seconds)
            )
        rate = _watch(topology.va, last)
    _keep_rows(topology.va, before, rows)
    return Reading(rate)


def _lag(agent: Agent) -> int:
    publishers = agent.admin.get("/v1/status")["publishers"]
    return sum(publisher["lag_entries"] for publisher in publishers)


async def _record(agent: Agent, model: x509.Certificate, authority_id: str) -> int:
    """Commit ENTRIES issuances; return the change log's last position."""
    der = model.public_bytes(Encoding.DER)
    async with open_store(f"sqlite:///{_database(agent)}") as store:
        numbers = iter(range(ENTRIES))
        while batch := list(itertools.islice(numbers, 2000)):
            await asyncio.gather(
                *(_record_one(store, der, authority_id, number) for number in batch)
            )
        return await store.last_position()


async def _record_one(store: Any, model: bytes, authority_id: str, number: int) -> None:
    # As large as the real thing and as incompressible; nobody on this path reads the DER.
    der = model[:-64] + os.urandom(64)
    now = int(time.time())
    name = f"host{number}.{secrets.token_hex(4)}.example.org"
    record = CertificateRecord(
        authority_id=authority_id,
        serial=secrets.randbits(158) | 1 << 150,
        der=der,
        subject=f"CN={name}",
        names=(name,),
        fingerprint_sha256=hashlib.sha256(der).digest(),
        not_before=now,
        not_after=now + 86400,
        profile="server",
        issued_at=now,
        origin="bench",
        request_id=os.urandom(16),
        request_digest=os.urandom(32),
    )
    audit = AuditRecord(at=time.time(), action="ra.enroll", allowed=True, chain="bench")
    await store.record_issuance(record, encode(certificate_payload(record)), audit)


def _watch(va: Agent, last: int) -> float:
    """Return entries per second between the first movement of the position and its end."""
    reading = sqlite3.connect(f"file:{_database(va)}?mode=ro", uri=True)
    query = "SELECT max(position) FROM source_positions"
    with contextlib.closing(reading):
        start = now = reading.execute(query).fetchone()[0] or 0
        first_at, first = 0.0, start
        deadline = time.monotonic() + 120
        while now < last:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the VA is at {now} of {last}:\n{va.explain_failure()}")
            time.sleep(_SAMPLE_SECONDS)
            now = reading.execute(query).fetchone()[0] or 0
            if not first_at and now > start:
                first_at, first = time.perf_counter(), now
        return (last - first) / (time.perf_counter() - first_at)


def _last_rows(va: Agent) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(f"file:{_database(va)}?mode=ro", uri=True)) as reading:
        return {
            "certificates": reading.execute("SELECT max(id) FROM certificates").fetchone()[0] or 0,
            "change_log": reading.execute("SELECT max(position) FROM change_log").fetchone()[0]
            or 0,
        }


def _keep_rows(va: Agent, before: dict[str, int], place: Path) -> None:
    """Copy what the VA wrote into a file of its own: the bare inserts write exactly that."""
    place.unlink(missing_ok=True)
    newer = {
        "certificates": f"id > {before['certificates']}",
        "certificate_names": f"certificate_id > {before['certificates']}",
        "change_log": f"position > {before['change_log']}",
    }
    with contextlib.closing(sqlite3.connect(place)) as copy:
        copy.execute("ATTACH ? AS va", (str(_database(va)),))
        for table, condition in newer.items():
            copy.execute(f"CREATE TABLE {table} AS SELECT * FROM va.{table} WHERE {condition}")
        copy.commit()


def _insert_bare(rows: Path, directory: Path) -> Reading:
    """Insert the kept rows with one executemany per table and transaction, indexes and all."""
    place = directory / "bare.sqlite3"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    asyncio.run(_make_schema(place))
    with contextlib.closing(sqlite3.connect(rows)) as source:
        tables = {name: source.execute(f"SELECT * FROM {name}").fetchall() for name in _TABLES}
    statements = {
        name: f"INSERT INTO {name} VALUES ({','.join('?' * len(found[0]))})"
        for name, found in tables.items()
    }
    count = len(tables["change_log"])
    transactions = -(-count // _ROWS_A_TRANSACTION)
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = WAL")
        target.execute("PRAGMA synchronous = FULL")
        target.execute("PRAGMA cache_size = -65536")
        target.execute("PRAGMA wal_autocheckpoint = 8000")
        started = time.perf_counter()
        for number in range(transactions):
            target.execute("BEGIN IMMEDIATE")
            for name, found in tables.items():
                share = -(-len(found) // transactions)
                target.executemany(statements[name], found[number * share : (number + 1) * share])
            target.execute("COMMIT")
        return Reading(count / (time.perf_counter() - started))


async def _make_schema(place: Path) -> None:
    async with open_store(f"sqlite:///{place}"):
        pass


def _database(agent: Agent) -> Path:
    return agent.directory / "state" / "store.sqlite3"


PUBLISHING = Benchmark(
    name="publishing",
    title="Publishing CA -> VA",
    unit="entries/s",
    method=(
        f"{ENTRIES:,} certificates stand in the CA's change log when it starts; timed is the VA's "
        "committed position (SQLite, synchronous=FULL, certificates, their searchable names and "
        f"its own change log). The bare loop writes the same rows, {_ROWS_A_TRANSACTION} entries a "
        "transaction, with the same indexes and settings, in one thread, without link, signature, "
        "decoding or check."
    ),
    prepare=_prepare,
    bars=(Bar(ours=OURS, other=BARE, factor=0.3),),
)
