"""Many rows in one statement, in each database's own way.

SQLite runs in the process, so ``executemany`` with one prepared statement is the fastest that its
driver has. PostgreSQL is a round trip away, so the rows travel as one array per column. Statements
are made from the tables once; nothing here puts a value into SQL text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

__all__ = ["Bulk", "PostgresqlBulk", "SqliteBulk", "bulk_for"]

_LOOKUP_LIMIT: Final = 512
"""Values in one SQLite ``IN``: half of the oldest default limit of bound values (999)."""


class Bulk:
    """Bulk statements on one database. Rows are tuples in the order of the table's columns."""

    def insert(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Insert ``rows``; any conflict fails the transaction."""
        raise AssertionError("an abstract database")

    def update(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set ``columns`` of the rows whose primary key is each tuple's last value."""
        raise AssertionError("an abstract database")

    def lookup(
        self, connection: sa.Connection, query: Lookup, group: str, values: Sequence[bytes]
    ) -> Iterable[Sequence[Any]]:
        """Return the rows of ``query`` where its group column and one of the values match."""
        raise AssertionError("an abstract database")


Rows = Sequence[tuple[Any, ...]]


class Lookup:
    """``SELECT columns WHERE group = ? AND value IN (...)``, both columns of one index."""

    def __init__(self, table: sa.Table, columns: Sequence[str], group: str, value: str) -> None:
        self.head = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {group} = "  # noqa: S608
        self.value = value


class SqliteBulk(Bulk):
    """``executemany``; look-ups padded to powers of two, so that few statements are prepared."""

    def __init__(self) -> None:
        self._inserts: dict[str, str] = {}

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
        """Insert ``rows``; any conflict fails the transaction."""
        statement = self._inserts.get(table.name)
        if statement is None:
            statement = str(table.insert().compile(dialect=connection.dialect))
            self._inserts[table.name] = statement
        connection.exec_driver_sql(statement, list(rows))

    def update(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set ``columns`` of the rows whose primary key is each tuple's last value."""
        (key,) = table.primary_key.columns
        settings = ", ".join(f"{name} = ?" for name in columns)
        statement = f"UPDATE {table.name} SET {settings} WHERE {key.name} = ?"  # noqa: S608
        connection.exec_driver_sql(statement, list(rows))

    def lookup(
        self, connection: sa.Connection, query: Lookup, group: str, values: Sequence[bytes]
    ) -> Iterable[Sequence[Any]]:
        """Return the rows of ``query`` where its group column and one of the values match."""
        for start in range(0, len(values), _LOOKUP_LIMIT):
            chunk = list(values[start : start + _LOOKUP_LIMIT])
            size = 1 << (len(chunk) - 1).bit_length()
            chunk += [chunk[-1]] * (size - len(chunk))
            marks = ",".join("?" * size)
            statement = f"{query.head}? AND {query.value} IN ({marks})"
            yield from connection.exec_driver_sql(statement, (group, *chunk)).all()


class PostgresqlBulk(Bulk):
    """One array per column, so that a bulk insert is one round trip."""

    def __init__(self) -> None:
        self._inserts: dict[str, str] = {}

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
        """Insert ``rows``; any conflict fails the transaction."""
        statement = self._inserts.get(table.name)
        if statement is None:
            columns = ", ".join(column.name for column in table.columns)
            arrays = _arrays(connection, table.columns)
            statement = f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({arrays})"  # noqa: S608
            self._inserts[table.name] = statement
        connection.exec_driver_sql(statement, _by_column(rows))

    def update(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set ``columns`` of the rows whose primary key is each tuple's last value."""
        (key,) = table.primary_key.columns
        settings = ", ".join(f"{name} = new.{name}" for name in columns)
        names = ", ".join((*columns, key.name))
        arrays = _arrays(connection, [*(table.c[name] for name in columns), key])
        statement = (
            f"UPDATE {table.name} AS old SET {settings} "  # noqa: S608
            f"FROM unnest({arrays}) AS new ({names}) WHERE old.{key.name} = new.{key.name}"
        )
        connection.exec_driver_sql(statement, _by_column(rows))

    def lookup(
        self, connection: sa.Connection, query: Lookup, group: str, values: Sequence[bytes]
    ) -> Iterable[Sequence[Any]]:
        """Return the rows of ``query`` where its group column and one of the values match."""
        statement = f"{query.head}%s AND {query.value} = ANY(%s::bytea[])"
        return connection.exec_driver_sql(statement, (group, list(values))).all()


def bulk_for(dialect: str) -> Bulk:
    """Return the bulk statements of ``dialect`` (a SQLAlchemy dialect name)."""
    return SqliteBulk() if dialect == "sqlite" else PostgresqlBulk()


def _arrays(connection: sa.Connection, columns: Iterable[sa.Column[Any]]) -> str:
    types = (column.type.compile(dialect=connection.dialect) for column in columns)
    return ", ".join(f"%s::{name.split(' COLLATE ')[0]}[]" for name in types)


def _by_column(rows: Rows) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))
