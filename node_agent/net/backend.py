"""The seam between the network and everything above it. Tests hand in their own ``Network``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from node_agent.wire.settings import WireSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder

__all__ = ["Listener", "NetSettings", "Network"]


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Patience and limits of the network layer.

    - ``connect_timeout_seconds``: a dial, from name resolution to Hello, all addresses together.
    - ``handshake_timeout_seconds``: TLS of an accepted connection; Hello has its own in ``wire``.
    - ``max_pending_handshakes``: accepted connections that may be in TLS at a time: what strangers
      can take of us. sshd's MaxStartups starts to refuse at 10 and stops at 100.
    - ``max_links_per_peer``: accepted links of one identity. They share ``wire.credits``, so that
      credits can't be multiplied by connecting again and again.
    - ``close_timeout_seconds``: how long the last bytes of a link may take to leave.
    """

    connect_timeout_seconds: float = 10.0
    handshake_timeout_seconds: float = 10.0
    max_pending_handshakes: int = 100
    max_links_per_peer: int = 64
    close_timeout_seconds: float = 2.0
    wire: WireSettings = field(default_factory=WireSettings)


class Listener(Protocol):
    """An open port."""

    @property
    def address(self) -> Address:
        """The address that is bound, with the real port."""
        ...

    async def close(self) -> None:
        """Close the port. Links that came in through it live on."""
        ...


class Network(Protocol):
    """Where links come from."""

    async def dial(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        expected: NodeIdentity,
        handler: CallHandler,
        settings: NetSettings,
    ) -> Link:
        """Return a link to ``expected`` that is through with Hello.

        Raises ConnectTimeout, ConnectError or HandshakeError; nothing stays open then.
        """
        ...

    async def listen(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        on_link: Callable[[Link], None],
        handler: CallHandler,
        settings: NetSettings,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> Listener:
        """Open a port; ``on_link`` is told of every link that got through Hello, ``on_refused`` of
        every connection that didn't (``host:port``), and why.

        Raises ConnectError when the port can't be opened.
        """
        ...
