"""A client of an agent's admin API: HTTP/1.1 with JSON over a Unix socket.

A socket path has at most 107 bytes (``sun_path`` in unix(7)). A longer one is reached through its
directory: ``/proc/self/fd/<directory>/admin.sock`` is always short.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from node_agent.cli.failures import AdminRefused, AgentUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["COMPARING_SECONDS", "AdminClient", "Json", "connect_unix"]

Json = Any
"""A decoded JSON document: the one place where the client's types end."""

COMPARING_SECONDS: Final = 300.0
"""For what waits on other nodes that read through their stores: the agent gives each call to such a
node 240 s.
"""

_MAX_PATH_BYTES = 107
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Far above a whole audit page or a node with thousands of objects; a bound all the same."""

_REMEDIES = {
    errno.ENOENT: "start it with: peersys run --config NODE.yaml; or name another socket with "
    "--socket or PEERSYS_SOCKET",
    errno.ECONNREFUSED: "the agent that made this socket is gone; start it again",
    errno.EACCES: "run as a member of the agent's admin group, or as the agent's own user",
    errno.EPERM: "run as a member of the agent's admin group, or as the agent's own user",
}


class AdminClient:
    """Calls of one agent's admin API; every call is a connection of its own.

    Raises AgentUnreachable when nobody answers and AdminRefused when the agent says no.
    """

    def __init__(self, socket_path: Path, *, timeout_seconds: float = 30.0) -> None:
        self.socket_path = socket_path
        self._timeout_seconds = timeout_seconds

    def get(self, *segments: str, **query: str | int | None) -> Json:
        """GET ``/v1/<segments>`` and return the decoded answer."""
        return self._request("GET", segments, query)

    def put(self, *segments: str, body: Json, **query: str | int | None) -> Json:
        """PUT ``body`` to ``/v1/<segments>`` and return the decoded answer."""
        return self._request("PUT", segments, query, body)

    def post(
        self,
        *segments: str,
        body: Json = None,
        timeout_seconds: float | None = None,
        **query: str | int | None,
    ) -> Json:
        """POST ``body`` to ``/v1/<segments>`` and return the decoded answer; ``timeout_seconds``
        is for what takes longer than other calls.
        """
        content = {} if body is None else body
        return self._request("POST", segments, query, content, timeout_seconds)

    def delete(self, *segments: str) -> Json:
        """DELETE ``/v1/<segments>`` and return the decoded answer."""
        return self._request("DELETE", segments, {})

    def _request(
        self,
        method: str,
        segments: tuple[str, ...],
        query: dict[str, str | int | None],
        body: Json = None,
        timeout_seconds: float | None = None,
    ) -> Json:
        content = None if body is None else json.dumps(body).encode()
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        answer = self._exchange(method, _target(segments, query), content, seconds)
        try:
            return json.loads(answer) if answer else None
        except ValueError as error:
            raise self._unreachable(
                "something that isn't a Peersys agent answers", "check which program owns it"
            ) from error

    def _exchange(
        self, method: str, target: str, content: bytes | None, timeout_seconds: float
    ) -> bytes:
        connection = _UnixConnection(self.socket_path, timeout_seconds=timeout_seconds)
        headers = {"Accept": "application/json", "Connection": "close"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body=content, headers=headers)
            answer = connection.getresponse()
            payload = answer.read(_MAX_ANSWER_BYTES)
        except TimeoutError as error:
            raise self._unreachable(
                f"no answer within {timeout_seconds:g} s",
                "look at the agent's log; it may be busy with a long operation",
            ) from error
        except http.client.HTTPException as error:
            raise self._unreachable(
                "the connection ended before an answer", "look at the agent's log"
            ) from error
        except OSError as error:
            raise self._unreachable(
                (error.strerror or str(error)).lower(),
                _REMEDIES.get(error.errno or 0, "look at the agent's log"),
            ) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise AdminRefused(_problem(payload), status=answer.status)
        return payload

    def _unreachable(self, what: str, remedy: str) -> AgentUnreachable:
        return AgentUnreachable(f"no agent at {self.socket_path}: {what}", remedy=remedy)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def connect(self) -> None:
        self.sock = connect_unix(self._path, timeout_seconds=self._timeout_seconds)


def connect_unix(path: Path, *, timeout_seconds: float) -> socket.socket:
    """Return a socket connected to ``path``, however long it is. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        with _short_path(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _target(segments: tuple[str, ...], query: dict[str, str | int | None]) -> str:
    path = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
    present = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(present)}" if present else path


def _problem(payload: bytes) -> dict[str, object]:
    try:
        problem = json.loads(payload)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
