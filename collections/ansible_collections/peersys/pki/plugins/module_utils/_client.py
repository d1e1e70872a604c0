# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The one client of the node agent's admin API: HTTP/1.1 with JSON on a Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
import typing as t
from urllib.parse import quote, urlencode

from ansible_collections.peersys.pki.plugins.module_utils._errors import (
    AgentBroken,
    AgentRefused,
    AgentUnreachable,
)

# sizeof(sockaddr_un.sun_path) on Linux is 108 with the closing NUL (unix(7)).
_MAX_SOCKET_PATH_BYTES = 107
# A node with 10,000 CAs describes itself in some 60 MB; beyond this something is wrong.
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_RETRY_SECONDS = 0.05
_NOT_UP_YET = (FileNotFoundError, ConnectionRefusedError)


class AdminClient:
    """Speaks to one agent. Every call is a connection of its own and has a deadline.

    ``start_timeout_seconds``: how long to wait for an agent that is just starting. Only a
    connection that was never made is tried again, so that nothing is asked twice.
    """

    def __init__(
        self, socket_path: str, *, timeout_seconds: float, start_timeout_seconds: float
    ) -> None:
        self.socket_path = socket_path
        self._timeout_seconds = timeout_seconds
        self._start_timeout_seconds = start_timeout_seconds

    def get(self, *segments: str, about: str = "node", **query: t.Any) -> t.Any:
        """Return what GET answers; see ``request``."""
        return self.request("GET", segments, about=about, query=query)

    def put(self, *segments: str, body: t.Any, about: str = "node", **query: t.Any) -> t.Any:
        """Return what PUT answers; see ``request``."""
        return self.request("PUT", segments, about=about, query=query, body=body)

    def post(self, *segments: str, body: t.Any, about: str = "node", **query: t.Any) -> t.Any:
        """Return what POST answers; see ``request``."""
        return self.request("POST", segments, about=about, query=query, body=body)

    def delete(self, *segments: str, about: str = "node", **query: t.Any) -> t.Any:
        """Return what DELETE answers; see ``request``."""
        return self.request("DELETE", segments, about=about, query=query)

    def request(
        self,
        method: str,
        segments: t.Sequence[str],
        *,
        about: str,
        query: t.Mapping[str, t.Any] | None = None,
        body: t.Any = None,
    ) -> t.Any:
        """Return the decoded JSON of one exchange below ``/v1``.

        Raises AgentUnreachable, AgentBroken, or AgentRefused, whose message starts with ``about``.
        """
        connection = self._connect()
        try:
            status, payload = _exchange(connection, method, _target(segments, query), body)
        except (OSError, http.client.HTTPException) as error:
            raise AgentUnreachable(
                f"{about}: the agent at {self.socket_path} gave no whole answer to {method}: "
                f"{error or type(error).__name__}. Look into the agent's log",
                sent=True,
            ) from error
        finally:
            connection.close()
        return _decoded(about, status, payload)

    def _connect(self) -> http.client.HTTPConnection:
        deadline = time.monotonic() + self._start_timeout_seconds
        while True:
            connection = _UnixConnection(self.socket_path, self._timeout_seconds)
            try:
                connection.connect()
            except _NOT_UP_YET as error:
                connection.close()
                if time.monotonic() >= deadline:
                    raise AgentUnreachable(self._absent(error)) from error
                time.sleep(_RETRY_SECONDS)
            except OSError as error:
                connection.close()
                raise AgentUnreachable(
                    f"the agent's admin socket {self.socket_path} can't be used: "
                    f"{error.strerror or error}. Run as root, as the agent's user, or as a member "
                    "of its admin group"
                ) from error
            else:
                return connection

    def _absent(self, error: OSError) -> str:
        reason = "doesn't exist" if isinstance(error, FileNotFoundError) else "has no listener"
        return (
            f"the agent's admin socket {self.socket_path} {reason} "
            f"(waited {self._start_timeout_seconds:g} s). Start the agent, or correct admin_socket"
        )


def is_listening(socket_path: str) -> bool:
    """Return whether somebody accepts connections on the Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            with _reachable(socket_path) as path:
                probe.connect(path)
        except OSError:
            return False
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with _reachable(self._socket_path) as path:
            self.sock.connect(path)


@contextlib.contextmanager
def _reachable(path: str) -> t.Iterator[str]:
    """Yield a name of the socket that fits into ``sun_path``, however deep its directory is."""
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def _target(segments: t.Sequence[str], query: t.Mapping[str, t.Any] | None) -> str:
    path = "/".join(["/v1", *(quote(segment, safe="") for segment in segments)])
    pairs = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in (query or {}).items()
        if value is not None
    }
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, body: t.Any
) -> tuple[int, bytes]:
    headers = {"Accept": "application/json, application/problem+json", "Connection": "close"}
    content = None
    if body is not None:
        content = json.dumps(body, separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    connection.request(method, target, body=content, headers=headers)
    response = connection.getresponse()
    return response.status, whole_body(response, _MAX_ANSWER_BYTES)


def whole_body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """Return the body. Raises IncompleteRead when it is cut short or longer than ``max_bytes``.

    ``HTTPResponse.read`` with a limit takes a connection that ends early for the end of the body.
    """
    payload = response.read(max_bytes)
    if response.length:
        raise http.client.IncompleteRead(payload, response.length)
    return payload


def _decoded(about: str, status: int, payload: bytes) -> t.Any:
    try:
        decoded = json.loads(payload) if payload else {}
    except ValueError as error:
        raise AgentBroken(
            f"{about}: the agent answered {status} with something that is not JSON"
        ) from error
    if status < 400:
        return decoded
    raise AgentRefused(about, status, decoded if isinstance(decoded, dict) else {})
