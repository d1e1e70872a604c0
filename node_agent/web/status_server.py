"""The status port: OCSP, CRLs, CA certificates and health over a small HTTP/1.1 server of our own.

This port answers strangers, and as many as come. An OCSP request whose answer is kept takes one
straight way, without a task or an await: ``data_received`` → parser → ``cached_response`` →
one ``write`` of bytes made before. One that comes in the same bytes as another before it skips the
parser. Everything else runs in the connection's one task, so answers to pipelined requests leave in
their order.

Limits, all in ``StatusSettings``: header and body bytes, seconds for a request to arrive, idle
seconds between requests, seconds without progress while the client doesn't read, pipelined
requests, connections. A sweep once a second ends what is overdue, so that a connection costs no
timer of its own.

Several processes may serve one port: bind the sockets with ``bind_tcp(…, reuse_port=True)``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from node_agent.web.status_connection import StatusConnection
from node_agent.web.status_routes import StatusRoutes
from node_agent.web.status_settings import StatusSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from node_agent.web.backends import CachedResponse, StatusBackend

__all__ = ["StatusServer", "StatusSettings"]


class StatusServer:
    """Serves ``backend`` on bound sockets; ``async with`` starts and closes it."""

    def __init__(
        self,
        backend: StatusBackend,
        sockets: Sequence[socket.socket],
        *,
        settings: StatusSettings | None = None,
    ) -> None:
        self.settings = settings or StatusSettings()
        self.cached_response = backend.cached_response
        self.routes = StatusRoutes(backend, self.settings)
        self.requests: dict[bytes, bytes] = {}
        """Whole HTTP requests that were answered from what is kept: the OCSP requests in them."""
        self.connections: set[StatusConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.second = 0
        self.wired: list[CachedResponse] = []
        """Answers whose HTTP bytes were made in this second."""
        self.now = 0.0
        self._sockets = list(sockets)
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    async def __aenter__(self) -> StatusServer:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def addresses(self) -> list[Any]:
        """The addresses that the sockets are bound to."""
        return [item.getsockname() for item in self._sockets]

    async def start(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        self._sweep()
        for item in self._sockets:
            server = await loop.create_server(
                lambda: StatusConnection(self), sock=item, backlog=self.settings.backlog
            )
            self._servers.append(server)

    async def close(self) -> None:
        """Stop accepting, end idle connections, let answers leave for ``shutdown_seconds``."""
        for server in self._servers:
            server.close()
        self._emptied.clear()
        for connection in list(self.connections):
            connection.finish()
        try:
            async with asyncio.timeout(self.settings.shutdown_seconds):
                if self.connections:
                    await self._emptied.wait()
        except TimeoutError:
            for connection in list(self.connections):
                connection.abort()
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=self.settings.shutdown_seconds)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def left(self, connection: StatusConnection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def _sweep(self) -> None:
        """Move the coarse clocks on and end what is overdue."""
        loop = asyncio.get_running_loop()
        self.second = int(time.time())
        self.now = loop.time()
        for answer in self.wired:
            answer.drop_wire()
        self.wired.clear()
        for connection in list(self.connections):
            if connection.deadline < self.now:
                connection.expire()
        # Just after the wall clock's next second begins: the Date header is never a second old.
        self._sweeper = loop.call_later(1.001 - time.time() % 1.0, self._sweep)
