"""Killed processes, full disks, broken connections: nothing lost, nothing doubled, no hands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from node_agent.errors import StoreError
from node_agent.store import Store, open_store
from node_agent.store.engine import writing_engine
from node_agent.store.records import CertificateQuery
from tests.support.event_loop import run
from tests.support.postgres import PostgresCluster, postgres_url, require_postgres
from tests.support.store_records import AUTHORITY, audit, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MORE_THAN_IT_CAN = 1_000_000


@contextlib.contextmanager
def load(url: str, *, first: int = 0, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.store_load", "issue", url]
    with subprocess.Popen(
        [*command, str(first), str(count)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[str]) -> dict[int, int]:
    """Return number to serial of every complete line; a line cut by the kill wasn't read."""
    assert process.stdout is not None
    lines = [line.split() for line in process.stdout if line.endswith("\n")]
    return {int(number): int(serial, 16) for number, serial, _ in lines}


async def consistent_serials(store: Store) -> list[int]:
    """Return all stored serials after checking that every write is whole."""
    stored = await store.search(CertificateQuery(limit=10_000))
    serials = [record.serial for record in stored]
    changes = await store.changes(0, limit=10_000)
    assert [change.position for change in changes] == list(range(1, len(serials) + 1))
    assert sorted(serials) == sorted(change.serial or 0 for change in changes)
    verdict = await store.verify_audit()
    assert (verdict.ok, verdict.entries) == (True, len(serials))
    return serials


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 150, 700])
def test_killed_process_loses_and_doubles_nothing(store_url: str, after: int) -> None:
    with load(store_url, count=MORE_THAN_IT_CAN) as process:
        assert process.stdout is not None
        head = [process.stdout.readline().split() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        told = {int(n): int(serial, 16) for n, serial, _ in head} | acknowledged(process)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            serials = await consistent_serials(store)
            assert set(told.values()) <= set(serials)
        count = len(serials) + 100
        with load(store_url, count=count) as again:
            retold = acknowledged(again)
        async with open_store(store_url) as store:
            serials = await consistent_serials(store)
            assert len(serials) == len(retold) == count
            assert sorted(retold.values()) == sorted(serials)
            assert told.items() <= retold.items()

    run(scenario(), timeout_seconds=50)


@pytest.mark.slow
def test_two_processes_answer_each_request_id_once(store_url: str) -> None:
    with load(store_url, count=400) as one, load(store_url, count=400) as two:
        answers = []
        threads = [
            threading.Thread(target=lambda p=process: answers.append(acknowledged(p)))
            for process in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)

    async def scenario() -> None:
        async with open_store(store_url) as store:
            serials = await consistent_serials(store)
            assert answers[0] == answers[1]
            assert sorted(answers[0].values()) == sorted(serials)
            assert len(serials) == 400

    run(scenario())


def test_full_disk_is_a_store_error_and_room_again_is_enough(sqlite_url: str) -> None:
    command = [sys.executable, "-m", "tests.support.store_load", "fill", sqlite_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    summary = json.loads(done.stdout)
    assert len(summary["errors"]) == 1
    assert "database refused" in summary["errors"][0]
    assert not summary["half_stored"]
    assert summary["position_after"] == summary["audit_entries"] == summary["stored"] + 1
    assert summary["audit_ok"]


@pytest.mark.slow
def test_database_server_that_crashes_and_restarts_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_postgres()
    monkeypatch.setattr("node_agent.store.marks.RECONNECT_SECONDS", 40)
    cluster = PostgresCluster(durable=True)
    cluster.start()

    async def crash_and_restart() -> None:
        await asyncio.sleep(0.1)
        cluster.stop(signal.SIGQUIT)
        cluster.start()

    async def scenario(url: str) -> None:
        numbers = iter(range(800))

        async def worker(store: Store) -> None:
            for number in numbers:
                await store.record_issuance(certificate(number), b"", audit())

        async with open_store(url) as store:
            await asyncio.gather(*(worker(store) for _ in range(20)), crash_and_restart())
            assert len(await consistent_serials(store)) == 800

    try:
        with cluster.database() as url:
            run(scenario(url), timeout_seconds=55)
    finally:
        cluster.remove()


class CommitCuttingProxy:
    """Stands between store and PostgreSQL; passes on a COMMIT, then cuts before its answer."""

    def __init__(self, directory: Path, server: str) -> None:
        self.cuts = 0
        self.cuts_left = 0
        self._server = server
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / ".s.PGSQL.5432"))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._upward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._downward, args=(server, client), daemon=True).start()

    def _upward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.cuts_left:
                    self.cuts_left -= 1
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    server.sendall(data)
                    continue
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downward(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        server.close()


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_commit_whose_answer_was_lost_is_not_repeated(store_url: str, tmp_path: Path) -> None:
    url = sa.make_url(store_url)
    proxy = CommitCuttingProxy(tmp_path, f"{url.query['host']}/.s.PGSQL.5432")
    through_proxy = url.set(query={"host": str(tmp_path)}).render_as_string()

    async def scenario() -> None:
        async with open_store(through_proxy) as store:
            for number in range(5):
                proxy.cuts_left = 1
                outcome = await store.record_issuance(certificate(number), b"", audit())
                assert (outcome.position, outcome.repeated) == (number + 1, False)
                assert proxy.cuts == number + 1
            assert len(await consistent_serials(store)) == 5

    try:
        run(scenario())
    finally:
        proxy.close()


def test_server_that_stays_away_fails_the_writes_with_a_store_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_postgres()
    monkeypatch.setattr("node_agent.store.marks.RECONNECT_SECONDS", 0.5)
    cluster = PostgresCluster()
    cluster.start()

    async def scenario(url: str) -> None:
        async with open_store(url) as store:
            await store.record_issuance(certificate(1), b"", audit())
            cluster.stop()
            outcomes = await asyncio.gather(
                *(store.record_issuance(certificate(n), b"", audit()) for n in range(10)),
                store.certificate(AUTHORITY, 1),
                return_exceptions=True,
            )
            assert {type(outcome) for outcome in outcomes} == {StoreError}
            cluster.start()
            outcome = await store.record_issuance(certificate(1), b"", audit())
            assert outcome.repeated

    try:
        with cluster.database() as url:
            run(scenario(url), timeout_seconds=50)
    finally:
        cluster.remove()


def test_a_client_that_falls_silent_in_a_transaction_holds_no_lock() -> None:
    """A CA host that loses its power or its network so leaves a session the server believes in."""
    with postgres_url() as url, contextlib.closing(psycopg.connect(url)) as watching:
        silent, other = writing_engine(url), writing_engine(url)
        with silent.connect() as held:
            held.exec_driver_sql("CREATE TABLE taken (n integer)")
            held.commit()
            held.exec_driver_sql("LOCK TABLE taken IN EXCLUSIVE MODE")
            with other.begin() as waiting:
                waiting.exec_driver_sql("LOCK TABLE taken IN EXCLUSIVE MODE")
            with pytest.raises(DBAPIError, match="idle-in-transaction"):
                held.exec_driver_sql("SELECT 1")
            held.invalidate()
        silent.dispose()
        other.dispose()
        assert not watching.execute(
            "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in%%'"
        ).fetchall()
