"""ASGI applications on uvicorn's protocol, inside the agent's own event loop.

uvicorn's Server takes the process over (signal handlers, a ten-times-a-second loop) and has no
limit on the time or size of request headers, none on connections before their first request, and
passes no client certificate. ``HttpServer`` therefore uses uvicorn's HTTP protocol class alone and
adds those. It serves sockets that are handed in and does not own the event loop.

TLS: give ``HttpServer`` the context of a ``TlsHolder``; ``TlsHolder.replace`` then changes
certificate, key and client trust for every handshake that starts afterwards, without a new
listener and without touching open connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from node_agent.errors import NodeAgentError
from node_agent.web.joined_writes import JoinedWrites
from node_agent.web.problems import PROBLEM_MEDIA_TYPE, refuse
from node_agent.web.tls import TlsHolder, tls_extension

if TYPE_CHECKING:
    import socket

    from node_agent.web.asgi import AsgiApp

__all__ = ["HttpServer", "HttpSettings", "Refused"]

_log = structlog.get_logger(__name__)
_PROBLEM = PROBLEM_MEDIA_TYPE.decode("ascii")


class Refused(NodeAgentError):
    """Raised by ``inspect`` to end a connection before its first request."""


Inspect = Callable[[asyncio.Transport], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Limits of one listener.

    ``header_seconds`` bounds the time from the first byte of a request (or the connection) to
    the end of its headers, ``body_seconds`` the time from there to the end of its body,
    ``header_bytes`` the size of the headers (nginx takes 8 KiB per line and 32 KiB in all, Apache
    8 KiB per line, h11 16 KiB in all).
    """

    max_connections: int = 2000
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    header_bytes: int = 16 * 1024
    idle_seconds: int = 60
    handshake_seconds: float = 10.0
    shutdown_seconds: float = 10.0
    backlog: int = 1024


class HttpServer:
    """Serves one ASGI application on sockets that are already listening or bound.

    ``inspect`` is called with each new transport and returns the ASGI extensions that its
    requests carry, or raises Refused. ``async with`` starts and closes it.
    """

    def __init__(
        self,
        app: AsgiApp,
        sockets: Sequence[socket.socket],
        *,
        settings: HttpSettings | None = None,
        tls: TlsHolder | None = None,
        inspect: Inspect | None = None,
    ) -> None:
        self.settings = settings or HttpSettings()
        self.inspect = inspect
        self._sockets = list(sockets)
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._tick: asyncio.TimerHandle | None = None
        self._state = ServerState()
        self._emptied = asyncio.Event()
        self._config = uvicorn.Config(
            cast("Any", app),
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self.settings.idle_seconds,
        )

    async def __aenter__(self) -> HttpServer:
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
        self._config.load()
        self._set_date()
        tls_options: dict[str, Any] = {}
        if self._tls is not None:
            tls_options = {
                "ssl": self._tls.listening,
                "ssl_handshake_timeout": self.settings.handshake_seconds,
                "ssl_shutdown_timeout": self.settings.shutdown_seconds,
            }
        for item in self._sockets:
            server = await loop.create_server(
                self._connection, sock=item, backlog=self.settings.backlog, **tls_options
            )
            self._servers.append(server)

    async def close(self) -> None:
        """Stop accepting, let running requests end for ``shutdown_seconds``, then cut the rest."""
        for server in self._servers:
            server.close()
        self._emptied.clear()
        for connection in list(self._state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.settings.shutdown_seconds):
                await self._wait_until_idle()
        except TimeoutError:
            _log.warning("requests cut at shutdown", connections=len(self._state.connections))
            self._cut()
        if self._tick is not None:
            self._tick.cancel()

    async def _wait_until_idle(self) -> None:
        if self._state.connections:
            await self._emptied.wait()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks))

    def left(self) -> None:
        """Note that a connection has ended (called by the connection)."""
        if not self._state.connections:
            self._emptied.set()

    def _cut(self) -> None:
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            cast("HttpToolsProtocol", connection).transport.abort()

    def _connection(self) -> asyncio.Protocol:
        return _Connection(self, self._config, self._state)

    def _set_date(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode("ascii")
        self._state.default_headers = [(b"date", date)]
        self._tick = asyncio.get_running_loop().call_later(1.0, self._set_date)


class _Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, bounded, and knowing who is at the other end."""

    def __init__(self, server: HttpServer, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._server = server
        self._extensions: dict[str, Any] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._unfinished_bytes = 0
        self._in_headers = False
        self._in_body = False
        self._headers_too_large = False
        self._refusal: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit or refuse the connection; learn the client's certificate."""
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        if len(self.connections) > self._server.settings.max_connections:
            transport.abort()
            return
        try:
            if self._server.inspect is not None:
                self._extensions |= self._server.inspect(transport)
        except Refused as refusal:
            _log.warning("connection refused", reason=str(refusal))
            self._refusal = str(refusal)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._extensions["tls"] = tls_extension(tls)
        self._arm(self._server.settings.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._disarm()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._server.left()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; whoever is between requests gets ``header_seconds`` for the next."""
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            # Told now and not at once: a client that is still sending would see a reset instead.
            self._end(HTTPStatus.FORBIDDEN, "not-admitted", self._refusal)
            return
        super().data_received(data)
        if self._in_headers and not self.transport.is_closing():
            # The parser reports a header only once it is whole, so bytes are counted here as well.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self._server.settings.header_bytes:
                self._headers_too_large = True
                self.send_400_response("request headers are too large")
        if self._in_body:
            self._arm(self._server.settings.body_seconds)
        elif self._awaits_headers():
            self._arm(self._server.settings.header_seconds)

    def on_message_begin(self) -> None:
        """Give the request's scope what is known of its connection."""
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = self._unfinished_bytes = 0
        self.scope["extensions"] = self._extensions

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the wait for headers."""
        self._in_headers = False
        self._in_body = True
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the wait for the body."""
        self._in_body = False
        self._disarm()
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._server.settings.header_bytes:
            # The parser stops and reports a failed callback, which send_400_response answers.
            self._headers_too_large = True
            raise Refused("request headers are too large")

    def _awaits_headers(self) -> bool:
        between = self.cycle is None or self.cycle.response_complete
        return between and self.timeout_keep_alive_task is None and not self.transport.is_closing()

    def _arm(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, and end the connection."""
        if self._headers_too_large:
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", msg)
        else:
            self._end(HTTPStatus.BAD_REQUEST, "bad-http", msg)

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_body and self.cycle.response_started:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._end(HTTPStatus.REQUEST_TIMEOUT, "slow-request", "it did not arrive in time")

    def _end(self, status: HTTPStatus, code: str, detail: str) -> None:
        body = refuse(status, code, detail).answer.body
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {_PROBLEM}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
