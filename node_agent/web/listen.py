"""Bound TCP sockets for the servers of this package."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError

if TYPE_CHECKING:
    from node_agent.config import Address

__all__ = ["bind_tcp"]


def bind_tcp(address: Address, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return a bound, not yet listening socket for each address that the host name has.

    With ``reuse_port`` several processes may bind the same address (SO_REUSEPORT of socket(7));
    the kernel then spreads connections over them. Raises ConfigError when none can be bound.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError(f"can't be resolved: {error}", where=str(address)) from error
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, target in dict.fromkeys(found):
            bound.append(_bind(socket.socket(family, kind, protocol), target, reuse_port))
    except OSError as error:
        for item in bound:
            item.close()
        raise ConfigError(
            f"can't be listened on: {error.strerror}",
            where=str(address),
            remedy="choose a free port and an address of this host",
        ) from error
    return bound


def _bind(
    listener: socket.socket, target: tuple[str | int | bytes, ...], reuse_port: bool
) -> socket.socket:
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
    except OSError:
        listener.close()
        raise
    return listener
