"""A throwaway PostgreSQL cluster from the distribution's own binaries, an empty database per test.

The cluster is started at the first use, belongs to this process, and ends with it. It listens on a
Unix socket in its own directory only, so that no port is taken. PostgreSQL refuses to run as root;
then the cluster runs as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PostgresCluster", "missing_postgres", "postgres_url", "require_postgres"]

START_TIMEOUT_SECONDS = 30
_UNPRIVILEGED = ("postgres", "nobody")
_database_numbers = itertools.count(1)


class PostgresCluster:
    """A running server. ``durable`` keeps fsync on, for benchmarks and crash tests."""

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._directory = Path(tempfile.mkdtemp(prefix="peersys-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._empty: list[str] = []
        self.log_path = self._directory / "server.log"

    def start(self) -> None:
        """Make the data directory and start the server; returns when it accepts connections.

        The server ends with the *thread* that calls this: call it from one that lives on.
        """
        _give_away(self._directory)
        if not self._data.exists():
            command = [_program("initdb"), "-D", str(self._data), "-U", "peersys"]
            command += ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
            subprocess.run(_as_user(command), check=True, capture_output=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                _as_user([_program("postgres"), *self._options()]),
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )
        self._wait_until_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT cuts clients off, SIGQUIT is a crash that has to recover."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_TIMEOUT_SECONDS)

    def remove(self) -> None:
        """Stop the server and delete its files."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def url(self, database: str) -> str:
        """Return the store URL of ``database``."""
        return f"postgresql://peersys@/{database}?host={self._directory}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one administrative statement outside of a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of an empty database; cut off whoever still uses it at the end.

        Making a database takes a second on a busy machine, emptying one some milliseconds.
        """
        name = self._empty.pop() if self._empty else self._create()
        try:
            yield self.url(name)
        finally:
            self._clear(name)
            self._empty.append(name)

    def _clear(self, name: str) -> None:
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _create(self) -> str:
        name = f"test_{os.getpid()}_{next(_database_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _options(self) -> list[str]:
        settings = ["listen_addresses=", f"unix_socket_directories={self._directory}"]
        if not self._durable:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        return ["-D", str(self._data), *(part for value in settings for part in ("-c", value))]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                process = self._process
                ended = process is None or process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = self.log_path.read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{log}") from error
                time.sleep(0.05)
            else:
                return


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    """Yield the URL of a fresh database on the process's shared cluster, or skip the test."""
    require_postgres()
    with _shared_cluster().database() as url:
        yield url


def missing_postgres() -> str:
    """Return why there can be no cluster here; an empty string when there can."""
    if _program("postgres"):
        return ""
    return "PostgreSQL's server is not installed: install the package 'postgresql'"


def require_postgres() -> None:
    """Skip the running test when there is no server, or fail it where CI says it must be there."""
    reason = missing_postgres()
    if reason and os.environ.get("PEERSYS_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"{reason} (PEERSYS_REQUIRE_PROGRAMS=1)")
    if reason:
        pytest.skip(reason)


@functools.cache
def _shared_cluster() -> PostgresCluster:
    cluster = PostgresCluster()
    atexit.register(cluster.remove)
    cluster.start()
    return cluster


@functools.cache
def _program(name: str) -> str:
    newest_first = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda path: float(path.parts[-3]),
        reverse=True,
    )
    return str(newest_first[0]) if newest_first else shutil.which(name) or ""


def _as_user(command: Sequence[str]) -> list[str]:
    """The server must not outlive the tests, whatever ends them: hence the death signal."""
    prefix = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        user = _unprivileged_user()
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*prefix, *command]


def _give_away(directory: Path) -> None:
    if os.geteuid() == 0:
        user = _unprivileged_user()
        os.chown(directory, user.pw_uid, user.pw_gid)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("there is no unprivileged user to run PostgreSQL as")
