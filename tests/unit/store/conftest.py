"""Each test that asks for ``store_url`` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import postgres_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database of its own."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    with postgres_url() as url:
        yield url


@pytest.fixture(name="sqlite_url")
def fixture_sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite database that doesn't exist yet."""
    return sqlite_url(tmp_path)


def sqlite_url(directory: Path) -> str:
    """Return the URL of a SQLite file in ``directory``."""
    return f"sqlite:///{directory / 'store.sqlite3'}"
