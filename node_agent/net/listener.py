"""Listening: accept, TLS with the identity in force, Hello."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import structlog

from node_agent.config import Address
from node_agent.errors import ConnectError, HandshakeError
from node_agent.net.accepted import AcceptedLinks
from node_agent.net.handshake import LinkProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.net.backend import NetSettings
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder

__all__ = ["TlsListener", "open_listener"]

log = structlog.get_logger(__name__)

# What the kernel queues while the loop is busy; nginx's default is 511.
_BACKLOG = 512
# Out of descriptors: trying again at once would only burn the processor.
_ACCEPT_PAUSE_SECONDS = 0.2


class TlsListener:
    """Accepts peers until closed. Each handshake takes the context in force at that moment, so a
    replaced identity counts for the very next connection.

    Accepting is a callback and not a task in ``sock_accept``: asyncio loses the accepted socket
    when such a task is cancelled in the turn in which the connection came.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        identity: IdentityHolder,
        on_link: Callable[[Link], None],
        handler: CallHandler,
        settings: NetSettings,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self._on_refused = on_refused
        self._socket = listening
        self._identity = identity
        self._on_link = on_link
        self._settings = settings
        self._links = AcceptedLinks(settings, handler)
        self._handshakes: dict[asyncio.Task[None], socket.socket | None] = {}
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._is_closed = False
        self._resume()

    @property
    def address(self) -> Address:
        """The address that is bound, with the real port."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    async def close(self) -> None:
        """Close the port and break off handshakes; links live on."""
        self._stop_accepting()
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._socket.close()
        for task in self._handshakes:
            task.cancel()
        while self._handshakes:
            await asyncio.wait(tuple(self._handshakes))

    def _resume(self) -> None:
        self._pause = None
        if not self._is_accepting and not self._is_closed:
            self._is_accepting = True
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _stop_accepting(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        try:
            connection, remote = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # the peer has left again
        except OSError as error:
            log.warning("accept failed", error=str(error))
            self._stop_accepting()
            self._pause = self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._greet(connection, f"{remote[0]}:{remote[1]}"))
        self._handshakes[task] = connection
        task.add_done_callback(self._handshake_ended)
        if len(self._handshakes) >= self._settings.max_pending_handshakes:
            self._stop_accepting()

    def _handshake_ended(self, task: asyncio.Task[None]) -> None:
        connection = self._handshakes.pop(task)
        if connection is not None:
            connection.close()  # cancelled before its first step: no transport ever owned it
        if self._pause is None:
            self._resume()

    async def _greet(self, connection: socket.socket, remote: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handshakes[task] = None  # from here on the transport owns the socket
        protocol = LinkProtocol(
            identity=self._identity,
            handler=self._links,
            settings=self._settings,
            settings_for=self._links.settings_for,
            admit=self._links.admit,
        )
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._identity.current.server_context,
                ssl_handshake_timeout=self._settings.handshake_timeout_seconds,
            )
            link = await protocol.greeted()
        except (OSError, HandshakeError) as error:
            reason = str(error) or type(error).__name__
            log.warning("peer refused", remote=remote, reason=reason)
            if self._on_refused is not None:
                self._on_refused(remote, reason)
        except BaseException:
            # Cancelled with the TLS handshake just done: asyncio would wait for the peer's leave.
            protocol.abort()
            raise
        else:
            log.info("link up", peer=str(link.peer.node), id=link.connection_id, remote=remote)
            self._links.share(link.peer.node)
            self._on_link(link)


async def open_listener(
    address: Address,
    *,
    identity: IdentityHolder,
    on_link: Callable[[Link], None],
    handler: CallHandler,
    settings: NetSettings,
    on_refused: Callable[[str, str], None] | None = None,
) -> TlsListener:
    """Bind and accept. Raises ConnectError when the address can't be bound."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, sockaddr = found[0]
        listening = socket.create_server(
            sockaddr[:2], family=socket.AddressFamily(family), backlog=_BACKLOG
        )
    except OSError as error:
        raise ConnectError(f"{address} can't be opened: {error.strerror or error}") from error
    listening.setblocking(False)
    return TlsListener(
        listening,
        identity=identity,
        on_link=on_link,
        handler=handler,
        settings=settings,
        on_refused=on_refused,
    )
