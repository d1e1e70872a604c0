"""An admin API that answers from a table: lets client tests say what an agent would have said."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["AdminStandIn", "serve_admin"]

Answer = tuple[int, Any]


class AdminStandIn:
    """Answers by ``(method, path without query)``; unknown paths get a 404 problem document.

    ``requests`` records (method, path with query, decoded body) in order of arrival. An answer is
    (status, document) or a callable that makes one from the path with query and the body.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer | Callable[[str, Any], Answer]] = {}
        self.requests: list[tuple[str, str, Any]] = []

    def answer(self, method: str, path: str, document: Any, *, status: int = 200) -> None:
        """Answer ``method path`` with ``document`` from now on."""
        self.answers[method, path] = (status, document)

    def respond(self, method: str, path: str, body: Any) -> Answer:
        """Record a request and return its answer."""
        self.requests.append((method, path, body))
        known = self.answers.get((method, path.partition("?")[0]))
        if known is None:
            problem = {"title": "Not found", "status": 404, "detail": f"no {path}"}
            return 404, problem
        return known(path, body) if callable(known) else known


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    stand_in: AdminStandIn


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, document = self.server.stand_in.respond(self.command, self.path, body)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep test output to the tests."""

    def address_string(self) -> str:
        """A Unix peer has no address."""
        return "unix"


@contextlib.contextmanager
def serve_admin(socket_path: Path) -> Iterator[AdminStandIn]:
    """Serve an AdminStandIn on ``socket_path``, however long, until the block ends."""
    socket_path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY)
    server = _Server(f"/proc/self/fd/{directory}/{socket_path.name}", _Handler)
    server.stand_in = AdminStandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
        os.close(directory)
        socket_path.unlink(missing_ok=True)
