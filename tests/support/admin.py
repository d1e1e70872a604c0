"""A client of an agent's admin socket, for tests and benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["AdminClient", "AdminError"]

_SUN_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes with its closing NUL


class AdminError(Exception):
    """The admin API answered with a problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status} {json.dumps(problem)}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect, by way of the directory's descriptor where the path is too long."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= _SUN_PATH_BYTES:
            self.sock.connect(str(self._path))
            return
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


class AdminClient:
    """The admin API of one agent; each call is a connection of its own."""

    def __init__(self, socket_path: Path, *, timeout_seconds: float = 30) -> None:
        self.socket_path = socket_path
        self._timeout_seconds = timeout_seconds

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Return the decoded answer. Raises AdminError for a status of 400 or more."""
        given = {name: _query_text(value) for name, value in query.items() if value is not None}
        target = f"{path}?{urllib.parse.urlencode(given)}" if given else path
        connection = _UnixConnection(self.socket_path, self._timeout_seconds)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, payload, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        decoded = json.loads(text) if text else None
        if answer.status >= 400:
            raise AdminError(answer.status, decoded or {})
        return decoded

    def get(self, path: str, **query: Any) -> Any:
        """GET ``path``."""
        return self.request("GET", path, **query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """POST ``body`` to ``path``."""
        return self.request("POST", path, {} if body is None else body, **query)

    def put(self, path: str, body: Any, **query: Any) -> Any:
        """PUT ``body`` at ``path``."""
        return self.request("PUT", path, body, **query)

    def delete(self, path: str, **query: Any) -> Any:
        """DELETE ``path``."""
        return self.request("DELETE", path, **query)

    def apply(self, *, dry_run: bool = False, **objects: Sequence[Mapping[str, Any]]) -> Any:
        """PUT a node specification: ``apply(peer_roles=[{...}], publishers=[...])``."""
        return self.put("/v1/node", objects, dry_run=dry_run)

    def state(self, kind: str, name: str) -> dict[str, Any]:
        """Return the state half of one object."""
        state: dict[str, Any] = self.get(f"/v1/objects/{kind}/{name}")["state"]
        return state

    def is_healthy(self) -> bool:
        """Whether the agent answers at all."""
        try:
            return bool(self.get("/v1/health")["status"] == "ok")
        except (OSError, http.client.HTTPException, AdminError, ValueError):
            return False


def _query_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
