"""Statements whose SQL text is made once and which go straight to the driver.

A point read of a certificate (22 columns) costs some 10 us so; SQLAlchemy's result description,
made anew for every execution, alone costs ten times that. The statements are still written in
SQLAlchemy Core, which spells them for each database.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, NoResultFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

__all__ = ["Prepared", "driver_errors"]


@contextlib.contextmanager
def driver_errors(connection: sa.Connection, statement: str) -> Iterator[None]:
    """Raise the driver's own errors as SQLAlchemy's, as if it had executed the statement."""
    driver_error = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except driver_error as error:
        raise DBAPIError.instance(statement, None, error, driver_error) from error


class Prepared:
    """A statement of fixed form, compiled at its first use on each dialect."""

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        self._texts: dict[str, tuple[str, Sequence[str] | None]] = {}

    def first(self, connection: sa.Connection, **values: Any) -> Sequence[Any] | None:
        """Return the first row, or None. Raises SQLAlchemyError."""
        row: Sequence[Any] | None = self._executed(connection, values, "fetchone")
        return row

    def all(self, connection: sa.Connection, **values: Any) -> Sequence[Any]:
        """Return every row as the driver's plain tuple. Raises SQLAlchemyError."""
        rows: Sequence[Any] = self._executed(connection, values, "fetchall")
        return rows

    def one(self, connection: sa.Connection, **values: Any) -> Sequence[Any]:
        """Return the row that must be there. Raises SQLAlchemyError."""
        row = self.first(connection, **values)
        if row is None:
            raise NoResultFound(f"a row is missing: {self._statement}")
        return row

    def write(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Execute a statement that returns nothing for each row. Raises SQLAlchemyError."""
        text, order = self._compiled(connection.dialect)
        parameters = rows if order is None else [tuple(row[name] for name in order) for row in rows]
        with driver_errors(connection, text):
            cursor = connection.connection.cursor()
            try:
                cursor.executemany(text, parameters)
            finally:
                cursor.close()

    def _executed(self, connection: sa.Connection, values: dict[str, Any], fetch: str) -> Any:
        """Execute it and return what the cursor's method ``fetch`` does."""
        text, order = self._compiled(connection.dialect)
        parameters = values if order is None else [values[name] for name in order]
        # Context managers here would cost as much as the look into the database itself.
        driver_error = connection.dialect.loaded_dbapi.Error
        try:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(text, parameters)
                return getattr(cursor, fetch)()
            finally:
                cursor.close()
        except driver_error as error:
            raise DBAPIError.instance(text, None, error, driver_error) from error

    def _compiled(self, dialect: sa.Dialect) -> tuple[str, Sequence[str] | None]:
        known = self._texts.get(dialect.name)
        if known is None:
            compiled = self._statement.compile(dialect=dialect)
            known = (str(compiled), getattr(compiled, "positiontup", None))
            self._texts[dialect.name] = known
        return known
