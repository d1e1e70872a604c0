"""Dialling: resolve, connect, TLS, Hello; every address gets its turn within one deadline."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

from node_agent.errors import ConnectError, ConnectTimeout, HandshakeError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.config import Address
    from node_agent.net.handshake import LinkProtocol
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder

__all__ = ["connect_link"]


async def connect_link(
    address: Address,
    *,
    identity: IdentityHolder,
    make_protocol: Callable[[], LinkProtocol],
    timeout_seconds: float,
) -> Link:
    """Return a link through Hello. The name is resolved anew each time.

    Raises ConnectTimeout, ConnectError or HandshakeError (of the last address that was tried).
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    try:
        async with asyncio.timeout_at(deadline):
            candidates = await _resolve(address)
    except TimeoutError:
        raise ConnectTimeout(f"{address} wasn't resolved in {timeout_seconds:g} s") from None
    failure: NetworkError | ConnectTimeout = ConnectError(f"{address} has no address")
    for index, candidate in enumerate(candidates):
        share = (deadline - loop.time()) / (len(candidates) - index)
        try:
            async with asyncio.timeout(max(0.0, share)):
                return await _connect(candidate, identity, make_protocol())
        except TimeoutError:
            failure = ConnectTimeout(f"{address} didn't answer in {timeout_seconds:g} s")
        except NetworkError as error:
            failure = error
    raise failure


async def _resolve(address: Address) -> Sequence[tuple[int, Any]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectError(f"{address} can't be resolved: {error.strerror or error}") from error
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


async def _connect(
    candidate: tuple[int, Any], identity: IdentityHolder, protocol: LinkProtocol
) -> Link:
    family, sockaddr = candidate
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            sockaddr[0],
            sockaddr[1],
            family=family,
            flags=socket.AI_NUMERICHOST,
            ssl=identity.current.client_context,
            server_hostname="",  # no SNI: the peer is known by its identity, not by a host name
        )
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
        # asyncio says nothing of a connection that ends in the middle of the handshake.
        reason = getattr(error, "reason", None) or str(error) or "the connection was closed"
        raise HandshakeError(f"TLS failed: {reason}") from error
    except OSError as error:
        raise ConnectError(f"{sockaddr[0]}:{sockaddr[1]}: {error.strerror or error}") from error
    except BaseException:
        # Cancelled with the TLS handshake just done: asyncio would wait for the peer's leave.
        protocol.abort()
        raise
    return await protocol.greeted()
