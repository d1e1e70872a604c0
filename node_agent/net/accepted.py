"""The accepted links of each peer, and what they may ask for together.

Who dials chooses how many links there are, so the grant belongs to the peer and not to the link:
each link gets a part of it, as the links of a pool do. A lower grant takes effect only once the
peer has said that it read it, so what the peer sends before that waits its turn here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import NetSettings
    from node_agent.net.calls import CallHandler, IncomingCall, RawAnswer
    from node_agent.net.link import Link

__all__ = ["AcceptedLinks"]


@dataclass(slots=True, eq=False)
class _Peer:
    """The links of one peer, and a turn for each request that it may have served at a time."""

    turns: asyncio.Semaphore
    links: set[Link] = field(default_factory=set)


class AcceptedLinks:
    """Implements ``CallHandler`` before ``handler``: for what accepted links bring."""

    def __init__(self, settings: NetSettings, handler: CallHandler) -> None:
        self._settings = settings
        self._handler = handler
        self._peers: dict[NodeIdentity, _Peer] = {}

    async def __call__(self, call: IncomingCall) -> RawAnswer:
        """Serve ``call`` when its peer has a turn left."""
        peer = self._peers.get(call.link.peer.node)
        if peer is None:  # its last link has closed: nobody gets the answer
            return await self._handler(call)
        async with peer.turns:
            return await self._handler(call)

    def settings_for(self, node: NodeIdentity) -> NetSettings:
        """Return what the next link of ``node`` starts with."""
        peer = self._peers.get(node)
        share = self._share(1 if peer is None else len(peer.links) + 1)
        return replace(self._settings, wire=replace(self._settings.wire, credits=share))

    def admit(self, link: Link) -> str | None:
        """Take ``link`` in until it closes; return why not, if so."""
        node = link.peer.node
        peer = self._peers.get(node)
        if peer is None:
            peer = _Peer(asyncio.Semaphore(max(1, self._settings.wire.credits)))
            self._peers[node] = peer
        if len(peer.links) >= self._settings.max_links_per_peer:
            return f"{node} has {len(peer.links)} links already"
        peer.links.add(link)
        link.on_closed(self._forget)
        self.share(node)
        return None

    def share(self, node: NodeIdentity) -> None:
        """Give each link of ``node`` its part; one that hasn't said Hello yet is asked again."""
        peer = self._peers.get(node)
        if peer is not None:
            for link in tuple(peer.links):
                link.set_credits(self._share(len(peer.links)))

    def _share(self, links: int) -> int:
        credits = self._settings.wire.credits
        return min(credits, max(1, credits // links))

    def _forget(self, link: Link) -> None:
        node = link.peer.node
        peer = self._peers[node]
        peer.links.discard(link)
        if peer.links:
            self.share(node)
        else:
            del self._peers[node]
