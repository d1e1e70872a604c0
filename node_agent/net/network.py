"""The real network: TCP and TLS 1.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.net.dialer import connect_link
from node_agent.net.handshake import LinkProtocol
from node_agent.net.listener import TlsListener, open_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import NetSettings
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder

__all__ = ["TlsNetwork"]


class TlsNetwork:
    """Implements ``Network``. Has no state of its own: links and listeners belong to the caller."""

    async def dial(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        expected: NodeIdentity,
        handler: CallHandler,
        settings: NetSettings,
    ) -> Link:
        """Return a link to ``expected``, through Hello.

        Raises ConnectTimeout, ConnectError or HandshakeError; nothing stays open then.
        """

        def make_protocol() -> LinkProtocol:
            return LinkProtocol(
                identity=identity, handler=handler, settings=settings, expected=expected
            )

        return await connect_link(
            address,
            identity=identity,
            make_protocol=make_protocol,
            timeout_seconds=settings.connect_timeout_seconds,
        )

    async def listen(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        on_link: Callable[[Link], None],
        handler: CallHandler,
        settings: NetSettings,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> TlsListener:
        """Open a port. Raises ConnectError."""
        return await open_listener(
            address,
            identity=identity,
            on_link=on_link,
            handler=handler,
            settings=settings,
            on_refused=on_refused,
        )
