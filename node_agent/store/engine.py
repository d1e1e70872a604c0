"""Engines for the two databases, and the one place where their errors become ours."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from node_agent.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BUSY_TIMEOUT_SECONDS",
    "create_private",
    "is_sqlite",
    "reading_engine",
    "translated",
    "writing_engine",
]

BUSY_TIMEOUT_SECONDS: Final = 10.0
"""How long a SQLite connection waits for another process's transaction."""

CONNECT_TIMEOUT_SECONDS: Final = 5
"""How long a PostgreSQL connection may take to open."""

_LOOK_AGAIN_SECONDS: Final = 0.02

WAL_CHECKPOINT_PAGES: Final = 8000
"""About 32 MiB of write-ahead log: a hot page is copied back once instead of once a batch."""

_LOST_CLIENT: Final = (
    "-c idle_in_transaction_session_timeout=5s",
    *("-c tcp_keepalives_idle=5", "-c tcp_keepalives_interval=2", "-c tcp_keepalives_count=3"),
    # Keep-alives rest while an answer waits to be acknowledged; this counts then.
    "-c tcp_user_timeout=10000",
)
"""A node that loses its power or its network in the middle of a transaction holds the lock that the
other nodes wait for; the server ends its session after this time. Between two statements of ours
lie milliseconds.
"""

_LOST_SERVER: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""The same for a server that vanishes: about 10 s instead of the quarter of an hour of TCP."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_FORMS = "write sqlite:////absolute/path/store.sqlite3 or postgresql://user@host/database"


def writing_engine(url: str, *, password: Callable[[], str] | None = None) -> sa.Engine:
    """Return the engine of the one writer. Raises ConfigError for a URL of any other database.

    ``password`` is asked at each connection to PostgreSQL.
    """
    parsed = _parse(url)
    if is_sqlite(parsed):
        engine = _sqlite_engine(parsed, pool_size=1)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    return _postgresql_engine(parsed, password, pool_size=1, read_only=False)


def reading_engine(
    url: str, *, connections: int, password: Callable[[], str] | None = None
) -> sa.Engine:
    """Return an engine whose connections can't write, whatever is executed on them."""
    parsed = _parse(url)
    if is_sqlite(parsed):
        return _sqlite_engine(parsed, pool_size=connections, read_only=True)
    return _postgresql_engine(parsed, password, pool_size=connections, read_only=True)


def create_private(url: str) -> None:
    """Make a SQLite file that only its owner can read, for it holds the token's sealed keys.

    The write-ahead log and its index take their modes from it. Raises OSError.
    """
    if is_sqlite(url):
        Path(_parse(url).database or "").touch(mode=0o600)


def is_sqlite(url: str | sa.URL) -> bool:
    """Tell whether ``url`` is the embedded database."""
    return sa.make_url(url).get_backend_name() == "sqlite"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into StoreError; the driver's own words stay in the message."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"the database refused: {error.orig}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database can't be used: {error}") from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except SQLAlchemyError as error:
        raise ConfigError("is not a database URL", where="store_url", remedy=_FORMS) from error
    backend = parsed.get_backend_name()
    if parsed.password is not None or "password" in parsed.query:
        raise ConfigError(
            "holds a password, which logs and process lists would show",
            where="store_url",
            remedy="take it out, and name a file that has it with store_password_file",
        )
    if backend == "postgresql":
        _check_protection(parsed)
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"{backend} is not supported", where="store_url", remedy=_FORMS)
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("a store in memory keeps nothing", where="store_url", remedy=_FORMS)
    return parsed


def _check_protection(url: sa.URL) -> None:
    """Raise ConfigError unless a server on the network is known for sure.

    It is by its certificate, or by SCRAM with channel binding: then it proves that it knows the
    password, and that nobody sits between.
    """
    query = url.normalized_query
    hosts = [url.host, *query.get("host", ())]
    is_near = all(host in (None, "", *_LOOPBACK) or host[0] in "/@" for host in hosts if host)
    mode = query.get("sslmode", ("",))[-1]
    is_bound = query.get("channel_binding", ("",))[-1] == "require"
    if is_near or mode == "verify-full" or (is_bound and mode in ("require", "verify-ca")):
        return
    raise ConfigError(
        "names a server on the network without verifying it",
        where="store_url",
        remedy="name the server's certificate with store_trust_anchors, or add "
        "?sslmode=verify-full&sslrootcert=/path or ?sslmode=require&channel_binding=require",
    )


def _sqlite_engine(url: sa.URL, *, pool_size: int, read_only: bool = False) -> sa.Engine:
    path = Path(url.database or "").absolute()
    mode = "ro" if read_only else "rwc"
    engine = sa.create_engine(
        sa.URL.create(
            "sqlite+pysqlite", database=path.as_uri(), query={"mode": mode, "uri": "true"}
        ),
        poolclass=sa.QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        # Each has a page cache: who reads alone keeps one of them warm, and fills no other.
        pool_use_lifo=True,
        # Connections move between threads of one pool; the pool gives each to one at a time.
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    prepare = _prepare_sqlite_reader if read_only else _prepare_sqlite_writer
    event.listen(engine, "connect", prepare)
    return engine


def _prepare_sqlite_writer(connection: Any, record: object) -> None:
    # Without the driver's own BEGIN (it starts none before DDL), transactions are ours alone.
    connection.isolation_level = None
    _write_ahead(connection)
    for setting in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {WAL_CHECKPOINT_PAGES}",
        "cache_size = -65536",
    ):
        connection.execute(f"PRAGMA {setting}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have a write-ahead log. Whoever asks for it while another, who makes the file, is writing is
    refused at once: SQLite's own timeout doesn't hold there.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


def _prepare_sqlite_reader(connection: Any, record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -16384")


def _begin_immediate(connection: sa.Connection) -> None:
    # A transaction that starts as a reader and writes later can fail as busy at once, unhealably.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql_engine(
    url: sa.URL, password: Callable[[], str] | None, *, pool_size: int, read_only: bool
) -> sa.Engine:
    options = [*url.normalized_query.get("options", ()), *_LOST_CLIENT]
    if read_only:
        options += ["-c default_transaction_read_only=on", "-c statement_timeout=60s"]
    else:
        options += ["-c lock_timeout=30s"]
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={
            "options": " ".join(options),
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            **_LOST_SERVER,
        },
        isolation_level="AUTOCOMMIT" if read_only else "READ COMMITTED",
    )
    if password is not None:
        event.listen(engine, "do_connect", _password_giver(password))
    if not read_only:
        event.listen(engine, "connect", _make_durable)
    return engine


def _password_giver(password: Callable[[], str]) -> Callable[..., None]:
    def give(dialect: object, record: object, arguments: object, options: dict[str, Any]) -> None:
        options["password"] = password()

    return give


def _make_durable(connection: Any, record: object) -> None:
    # A server whose default gives up durability, for other applications, doesn't do so for us;
    # stricter settings (remote_apply) stay.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()
