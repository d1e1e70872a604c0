"""Bring a database to the schema of this version, before anything else reads or writes it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from node_agent.errors import StoreError

__all__ = ["REVISION", "migrate"]

REVISION: Final = "0003"
"""The newest migration. Kept here, too, so that a start with nothing to do needs no Alembic."""

_LOCK_KEY: Final = 0x7065_6572_7379_7301
"""Any fixed 64-bit number: two nodes that start on one PostgreSQL migrate one after the other."""

_alembic_lock = threading.Lock()
"""Alembic keeps the running migration in module globals: one at a time in a process."""


def migrate(engine: sa.Engine) -> None:
    """Apply what is missing, in one transaction. Raises StoreError for a newer database."""
    with engine.begin() as connection:
        # SQLite's BEGIN IMMEDIATE is the same lock for processes on one file.
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if _current(connection) != REVISION:
            _upgrade(connection)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    try:
        with _alembic_lock:
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the database was made by another version: {error}") from error
