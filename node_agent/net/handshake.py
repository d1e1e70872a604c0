"""From a finished TLS handshake to a link: whoever fails a check here never says Hello."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from node_agent.errors import HandshakeError
from node_agent.net.link import Link
from node_agent.net.tls import ALPN
from node_agent.wire.codes import Code
from node_agent.wire.frames import GoAway, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import NetSettings
    from node_agent.net.calls import CallHandler
    from node_agent.net.tls import IdentityHolder

__all__ = ["LinkProtocol", "peer_chain"]

# Above this much unsent data a body waits; two stream windows keep a fast link busy.
_WRITE_HIGH_WATER_BYTES = 512 * 1024


class LinkProtocol(asyncio.Protocol):
    """Checks the peer, then makes a link and passes on what the transport says.

    ``link`` resolves once the link is through Hello; it fails with HandshakeError.
    ``settings_for`` returns what the link to a peer is made with, where that depends on the peer.
    """

    def __init__(
        self,
        *,
        identity: IdentityHolder,
        handler: CallHandler,
        settings: NetSettings,
        expected: NodeIdentity | None = None,
        settings_for: Callable[[NodeIdentity], NetSettings] | None = None,
        admit: Callable[[Link], str | None] | None = None,
    ) -> None:
        self._identity = identity
        self._handler = handler
        self._settings = settings
        self._settings_for = settings_for or (lambda node: settings)
        self._expected = expected
        self._admit = admit
        self._link: Link | None = None
        self._transport: asyncio.Transport | None = None
        self._refused: HandshakeError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER_BYTES)
        try:
            self._link = self._make_link(transport)
        except HandshakeError as error:
            self._refuse(transport, Code.UNTRUSTED, error)
            return
        reason = None if self._admit is None else self._admit(self._link)
        if reason is not None:
            self._link.terminate(Code.TOO_MUCH, reason)
            return
        self._link.start()

    async def greeted(self) -> Link:
        """Wait for Hello and return the link. Raises HandshakeError; cancelling cuts it off."""
        try:
            if self._refused is not None:
                raise self._refused
            if self._link is None:
                raise HandshakeError("the connection closed during the handshake")
            await asyncio.shield(self._link.greeted)
            return self._link
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Cut whatever there is."""
        if self._refused is not None:
            return  # closes by itself once the reason has left
        if self._link is not None:
            if self._link.close_reason:
                return
            self._link.abort()
        elif self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._link is not None:
            self._link.data_received(data)

    def eof_received(self) -> None:
        if self._link is not None:
            self._link.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._link is not None:
            self._link.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause_writing()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume_writing()

    def _make_link(self, transport: asyncio.Transport) -> Link:
        tls = transport.get_extra_info("ssl_object")
        if not isinstance(tls, ssl.SSLObject):
            raise HandshakeError("the connection isn't TLS")
        if tls.selected_alpn_protocol() != ALPN:
            raise HandshakeError(f"the peer doesn't speak {ALPN}")
        chain_der = peer_chain(tls)
        peer = self._identity.verify_peer(chain_der)
        if self._expected is not None and peer.node != self._expected:
            raise HandshakeError(f"{self._expected} was dialled, {peer.node} answered")
        return Link(
            transport=transport,
            peer=peer,
            chain_der=chain_der,
            identity=self._identity,
            handler=self._handler,
            settings=self._settings_for(peer.node),
            local_dialled=self._expected is not None,
        )

    def _refuse(self, transport: asyncio.Transport, code: Code, error: HandshakeError) -> None:
        """Say why, and close; no state is kept for a stranger."""
        self._refused = error
        transport.write(encode_frame(GoAway(code, 0, str(error)[:256])))
        transport.close()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.close_timeout_seconds, transport.abort)


def peer_chain(tls: ssl.SSLObject) -> Sequence[bytes]:
    """Return the peer's certificates in DER, leaf first.

    Before Python 3.13 only the leaf can be had; the CA that issued it is normally the Management
    CA itself, and a CA between has to be in our own chain or trust anchors (``TlsIdentity``).
    """
    verified = getattr(tls, "get_verified_chain", None)
    if verified is not None:
        return tuple(verified())
    leaf = tls.getpeercert(binary_form=True)
    return () if leaf is None else (leaf,)
