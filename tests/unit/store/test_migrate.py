"""Migrations at start: the schema they make, once, however many nodes start together."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import node_agent.store.migrate as migrate_module
from node_agent.errors import StoreError
from node_agent.store import engine, open_store
from node_agent.store.schema import metadata
from tests.support.event_loop import run
from tests.support.store_records import audit


def test_migrations_make_the_schema_that_the_code_describes(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            with store._writing.connect() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, metadata) == []

    run(scenario())


def test_newest_migration_is_the_one_that_the_code_expects() -> None:
    config = Config()
    folder = migrate_module.__file__.replace("migrate.py", "migrations")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrate_module.REVISION


def test_nodes_that_start_together_migrate_once(store_url: str) -> None:
    async def scenario() -> None:
        stores = [open_store(store_url) for _ in range(4)]
        await asyncio.gather(*(store.start() for store in stores))
        sequences = await asyncio.gather(*(store.append_audit([audit()]) for store in stores))
        assert sorted(sequences) == [1, 2, 3, 4]
        await asyncio.gather(*(store.close() for store in stores))

    run(scenario())


def test_a_node_waits_for_another_that_makes_the_file(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sa.make_url(sqlite_url).database
    assert path is not None
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ended: list[float] = []

    def end(seconds: float) -> None:
        if not ended:
            other.execute("COMMIT")
        ended.append(seconds)

    monkeypatch.setattr(engine.time, "sleep", end)

    async def scenario() -> None:
        async with open_store(sqlite_url) as store:
            assert await store.append_audit([audit()]) == 1

    run(scenario())
    other.close()
    assert len(ended) == 1


def test_database_of_a_newer_version_is_refused(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            with store._writing.begin() as connection:
                connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="another version"):
            await open_store(store_url).start()

    run(scenario())


def test_start_with_nothing_to_migrate_needs_no_migration_tool(sqlite_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from node_agent.store import open_store\n"
        "async def main():\n"
        "    async with open_store(sys.argv[1]): pass\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program, sqlite_url], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert answers == ["True", "False"]
