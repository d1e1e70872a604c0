"""Opening a database: which URLs, with which settings, and what a reader can't do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from node_agent.errors import ConfigError, StoreError
from node_agent.store import Store, StoreReader, open_reader, open_store
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "url", ["", "no url", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:"]
)
def test_url_of_another_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="store_url") as caught:
        open_store(url)
    assert "sqlite:///" in caught.value.remedy


@pytest.mark.parametrize("url", ["postgresql://me:geheim@/x", "postgresql://me@/x?password=geheim"])
def test_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="store_password_file") as caught:
        open_store(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    ["", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=disable&channel_binding=require"],
)
@pytest.mark.parametrize("host", ["192.0.2.21", "db.example.org", "[2001:db8::1]:5433"])
def test_server_on_the_network_must_be_verified(host: str, options: str) -> None:
    with pytest.raises(ConfigError, match="without verifying"):
        open_store(f"postgresql://me@{host}/x{options}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@192.0.2.21/x?sslmode=verify-full&sslrootcert=/x.pem",
        "postgresql://me@192.0.2.21/x?sslmode=require&channel_binding=require",
        "postgresql://me@127.0.0.1/x",
        "postgresql://me@/x",
        "postgresql://me@/x?host=/run/postgresql",
    ],
)
def test_verified_or_local_server_will_do(url: str) -> None:
    assert open_store(url)._url == url


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/x.db", "postgresql://nobody@/none?host=/nowhere/at/all"]
)
def test_database_that_cannot_be_opened_is_a_store_error(url: str) -> None:
    with pytest.raises(StoreError):
        run(open_store(url).start())


def test_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        run(open_store(f"sqlite:///{tmp_path / 'x.db'}").start())


def test_reader_sees_what_is_committed_and_has_no_way_to_write(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store, store.reader() as reader:
            assert type(reader) is StoreReader
            writes = set(dir(Store)) - set(dir(StoreReader))
            assert {"record_issuance", "apply_plan", "append_audit"} <= writes
            await store.record_issuance(certificate(1), b"", audit())
            assert await reader.certificate(AUTHORITY, certificate(1).serial) == certificate(1)
            assert await reader.last_position() == 1

    run(scenario())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_heads SET position = 99",
        "DELETE FROM certificates",
        "CREATE TABLE x (y INTEGER)",
        "DROP TABLE certificates",
    ],
)
def test_connection_of_a_reader_refuses_writes(store_url: str, statement: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store, store.reader() as reader:
            for engine in (store._engine, reader._engine):
                with (
                    engine.connect() as connection,
                    pytest.raises(DBAPIError, match=r"read-?only"),
                ):
                    connection.execute(sa.text(statement))

    run(scenario())


def test_other_process_can_open_a_reader_alone(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_issuance(certificate(1), b"", audit())
        async with open_reader(store_url) as reader:
            assert await reader.last_position() == 1

    run(scenario())


def test_reader_of_a_database_that_was_never_made_is_a_store_error(store_url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(StoreError):
            async with open_reader(store_url):
                pass

    run(scenario())


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def test_sqlite_commits_are_durable_and_the_file_is_private(
    sqlite_url: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_store(sqlite_url) as store:
            await store.append_audit([audit()])
            with store._writing.connect() as connection:
                settings = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys")
                }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
            assert modes(tmp_path) == {
                "store.sqlite3": 0o600,
                "store.sqlite3-shm": 0o600,
                "store.sqlite3-wal": 0o600,
            }

    run(scenario())


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_postgresql_commits_are_durable_whatever_the_server_defaults_to(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            with store._engine.connect() as connection:
                assert connection.scalar(sa.text("SHOW synchronous_commit")) == "off"
            with store._writing.connect() as connection:
                assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"

    run(scenario())


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_reader_survives_the_loss_of_its_connections(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_issuance(certificate(1), b"", audit())
            await asyncio.gather(*(store.last_position() for _ in range(8)))
            with store._writing.connect() as connection:
                connection.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            assert await asyncio.gather(*(store.last_position() for _ in range(8))) == [1] * 8

    run(scenario())
