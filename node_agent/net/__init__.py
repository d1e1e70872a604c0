"""Links between peers: asyncio, TLS and certificates around ``node_agent.wire``."""

from __future__ import annotations

from node_agent.net.backend import Listener, NetSettings, Network
from node_agent.net.calls import Body, CallHandler, IncomingCall, RawAnswer
from node_agent.net.link import Link, LinkChange, LinkState
from node_agent.net.network import TlsNetwork
from node_agent.net.tls import IdentityHolder, TlsIdentity

__all__ = [
    "Body",
    "CallHandler",
    "IdentityHolder",
    "IncomingCall",
    "Link",
    "LinkChange",
    "LinkState",
    "Listener",
    "NetSettings",
    "Network",
    "RawAnswer",
    "TlsIdentity",
    "TlsNetwork",
]
