"""Many rows in one statement, in each database's own way.

SQLite runs in the process, so ``executemany`` with one prepared statement is the fastest that its
driver has. PostgreSQL is a round trip away and parses what it is sent, so many rows travel as
binary COPY, at a fifth of the cost of INSERTs. Statements are made from the tables; nothing here
puts a value into SQL text.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from node_agent.store.prepared import driver_errors

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Bulk", "Lookup", "PostgresqlBulk", "SqliteBulk", "bulk_for"]

Rows = Sequence[tuple[Any, ...]]

_LOOKUP_LIMIT: Final = 512
"""Values in one SQLite ``IN``: half of the oldest default limit of bound values (999)."""

_COPY_FROM_ROWS: Final = 8
"""COPY takes a round trip more than an INSERT; from about here it is worth it."""

_COPY_TYPES: Final = {"BIGINT": "int8", "INTEGER": "int4", "SMALLINT": "int2", "BYTEA": "bytea"}


class Lookup:
    """``SELECT columns WHERE value IN (...)``, with ``AND group = ?`` where a group is named; the
    columns of one index.
    """

    def __init__(
        self, table: sa.Table, columns: Sequence[str], value: str, *, group: str | None = None
    ) -> None:
        self.head = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {value} "  # noqa: S608  # of the schema
        self._group = group

    def tail(self, mark: str) -> str:
        """Return what follows the values; ``mark`` is how the driver writes a bound value."""
        return "" if self._group is None else f" AND {self._group} = {mark}"


class Bulk(ABC):
    """Bulk statements on one database. Rows are tuples in the order of the table's columns."""

    mark: str
    """How the driver writes a bound value."""

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
        """Insert ``rows``; any conflict fails the transaction."""
        _execute_for_each(connection, _insert_statement(table, self.mark), rows)

    def update(
        self, connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set ``columns`` of the rows whose primary key is each tuple's last value."""
        (key,) = table.primary_key.columns
        settings = ", ".join(f"{name} = {self.mark}" for name in columns)
        statement = f"UPDATE {table.name} SET {settings} WHERE {key.name} = {self.mark}"  # noqa: S608  # of the schema
        _execute_for_each(connection, statement, rows)

    @abstractmethod
    def lookup(
        self, connection: sa.Connection, query: Lookup, values: Sequence[bytes], *group: str
    ) -> Iterable[Sequence[Any]]:
        """Return the rows of ``query`` where one of the values matches, and the group if it has
        one.
        """


class SqliteBulk(Bulk):
    """Look-ups are padded to powers of two, so that few statements are prepared."""

    mark = "?"

    def lookup(
        self, connection: sa.Connection, query: Lookup, values: Sequence[bytes], *group: str
    ) -> Iterable[Sequence[Any]]:
        """Return the rows that match."""
        for start in range(0, len(values), _LOOKUP_LIMIT):
            chunk = list(values[start : start + _LOOKUP_LIMIT])
            size = 1 << (len(chunk) - 1).bit_length()
            chunk += [chunk[-1]] * (size - len(chunk))
            marks = ",".join("?" * size)
            statement = f"{query.head}IN ({marks}){query.tail(self.mark)}"
            yield from _rows(connection, statement, (*chunk, *group))


class PostgresqlBulk(Bulk):
    """Many new rows go by COPY, looked-up values as one array."""

    mark = "%s"

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
        """Insert ``rows``; any conflict fails the transaction."""
        if len(rows) < _COPY_FROM_ROWS:
            super().insert(connection, table, rows)
            return
        statement = f"COPY {table.name} ({_names(table)}) FROM STDIN (FORMAT BINARY)"
        with driver_errors(connection, statement):
            cursor: Any = connection.connection.cursor()
            with cursor, cursor.copy(statement) as copy:
                copy.set_types([_copy_type(column, connection) for column in table.columns])
                for row in rows:
                    copy.write_row(row)

    def lookup(
        self, connection: sa.Connection, query: Lookup, values: Sequence[bytes], *group: str
    ) -> Iterable[Sequence[Any]]:
        """Return the rows that match."""
        statement = f"{query.head}= ANY(%s::bytea[]){query.tail(self.mark)}"
        return _rows(connection, statement, (list(values), *group))


def bulk_for(dialect: str) -> Bulk:
    """Return the bulk statements of ``dialect`` (a SQLAlchemy dialect name)."""
    return SqliteBulk() if dialect == "sqlite" else PostgresqlBulk()


def _execute_for_each(connection: sa.Connection, statement: str, rows: Rows) -> None:
    # Straight to the driver: SQLAlchemy makes a context and a result of its own for each statement,
    # and a transaction has half a dozen, however few rows.
    with driver_errors(connection, statement):
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(statement, rows)
        finally:
            cursor.close()


def _rows(connection: sa.Connection, statement: str, values: Sequence[Any]) -> Rows:
    with driver_errors(connection, statement):
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement, values)
            found: Rows = cursor.fetchall()
        finally:
            cursor.close()
    return found


@functools.cache
def _insert_statement(table: sa.Table, mark: str) -> str:
    marks = ", ".join([mark] * len(table.columns))
    return f"INSERT INTO {table.name} ({_names(table)}) VALUES ({marks})"  # noqa: S608  # of the schema


def _names(table: sa.Table) -> str:
    return ", ".join(column.name for column in table.columns)


def _copy_type(column: sa.Column[Any], connection: sa.Connection) -> str:
    # Text may carry a collation behind its name.
    name = column.type.compile(dialect=connection.dialect).partition(" ")[0]
    return _COPY_TYPES.get(name, "text")
