"""Whether a COMMIT whose answer was lost did commit.

A connection that breaks in COMMIT leaves the writer not knowing. Repeating the batch could append
an audit entry twice; giving up could report a stored certificate as failed. So each batch writes
its number beside its rows, and after a break the number is read back on a fresh connection.
SQLite's COMMIT can't lose its answer, so there the marks are off.
"""

from __future__ import annotations

import enum
import time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from node_agent.store.schema import commit_marks, log_heads

__all__ = ["CommitMarks", "Fate"]

RECONNECT_SECONDS: Final = 10.0
"""How long a restarting database is waited for before the writes that wait on it fail."""

_PAUSE_SECONDS: Final = 0.1

_FORGET_AFTER_SECONDS: Final = 7 * 86400
"""A mark this old belongs to a writer that was killed."""


class Fate(enum.Enum):
    """What became of a batch whose connection broke."""

    COMMITTED = enum.auto()
    ROLLED_BACK = enum.auto()
    UNKNOWN = enum.auto()


class CommitMarks:
    """One writer's marks; ``writer`` is random per start."""

    def __init__(self, writer: bytes, *, enabled: bool) -> None:
        self._writer = writer
        self._enabled = enabled
        self._batch = 0
        self._away_since: float | None = None

    def begin(self) -> None:
        """Number the next attempt."""
        self._batch += 1

    def write(self, connection: sa.Connection, *, at: int) -> None:
        """Put the attempt's number into its transaction."""
        if not self._enabled:
            return
        values = {"batch": self._batch, "at": at}
        mine = commit_marks.c.writer == self._writer
        if connection.execute(commit_marks.update().where(mine).values(values)).rowcount == 0:
            connection.execute(commit_marks.insert().values(writer=self._writer, **values))
            old = commit_marks.c.at < at - _FORGET_AFTER_SECONDS
            connection.execute(commit_marks.delete().where(old))

    def is_in_doubt(self, error: Exception) -> bool:
        """Tell whether ``error`` says nothing about the transaction's end."""
        return self._enabled and isinstance(error, OperationalError | InterfaceError)

    def fate(self, engine: sa.Engine) -> Fate:
        """Find out what became of the last attempt; waits for a database that restarts.

        One that stays away is waited for once, not with every write: whoever asked may know another
        node, which still reaches it.
        """
        if self._away_since is None:
            self._away_since = time.monotonic()
        deadline = self._away_since + RECONNECT_SECONDS
        while True:
            try:
                stored = self._stored(engine)
            except SQLAlchemyError:
                if time.monotonic() > deadline:
                    return Fate.UNKNOWN
                time.sleep(_PAUSE_SECONDS)
                continue
            self._away_since = None
            return Fate.COMMITTED if stored == self._batch else Fate.ROLLED_BACK

    def forget(self, engine: sa.Engine) -> None:
        """Remove this writer's mark."""
        if self._enabled:
            with engine.begin() as connection:
                mine = commit_marks.c.writer == self._writer
                connection.execute(commit_marks.delete().where(mine))

    def _stored(self, engine: sa.Engine) -> int | None:
        mine = commit_marks.c.writer == self._writer
        with engine.begin() as connection:
            # The broken session may still be committing: its lock on the heads has to go first.
            connection.execute(sa.select(log_heads.c.id).with_for_update())
            return connection.scalar(sa.select(commit_marks.c.batch).where(mine))
