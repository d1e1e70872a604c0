"""Whose request is begun next, when more have come than are begun at once.

A peer may have as many requests under way as it has credits. Begun in the order in which they came,
those of one that keeps all of its credits in use, even with what it is granted, would stand before
each request of everybody else. So while several ask, each has its share of the places: each link
peer, and of what a peer brings, each origin. What is above that waits; peers, and origins of a
peer, take turns, and one is begun in each turn of the event loop. Who asks alone has all places.

A place is held for what this node does itself; what waits for others gives it up first. Origins are
taken by what the envelope says, which isn't verified yet: a proxy that invents some divides its own
share among more of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity

__all__ = ["Turn", "Turns"]

# Enough that writes are committed in company, few enough that what is begun is soon done.
_PLACES: Final = 8
_SMALLEST_SHARE: Final = 4
# Who asks one thing after the other, with pauses in between, is there all the time.
_REMEMBERED_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class _Origin:
    """What one peer brings of one origin: how much is under way, and what waits."""

    last_at: float
    under_way: int = 0
    line: deque[asyncio.Future[Turn]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Peer:
    """The origins of one link peer. Those in ``waiting`` have a line; who is next comes first."""

    origins: dict[bytes, _Origin] = field(default_factory=dict)
    waiting: dict[bytes, _Origin] = field(default_factory=dict)
    under_way: int = 0


class Turn:
    """A place, from now until ``end``."""

    __slots__ = ("_origin", "_peer", "_turns")

    def __init__(self, turns: Turns, peer: _Peer, origin: _Origin) -> None:
        self._turns: Turns | None = turns
        self._peer = peer
        self._origin = origin
        peer.under_way += 1
        origin.under_way += 1

    def end(self) -> None:
        """Give the place up. Doing so again does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            self._peer.under_way -= 1
            self._origin.under_way -= 1
            turns.continue_soon()


class Turns:
    """The places of one node, and who waits for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peers: dict[NodeIdentity, _Peer] = {}
        self._waiting: dict[NodeIdentity, _Peer] = {}
        self._origins = 0
        self._swept_at = clock.monotonic()
        # Whether one has begun in this turn of the event loop.
        self._has_begun = False

    async def take(self, node: NodeIdentity, name: bytes) -> Turn:
        """Return a place for what ``node`` brings of an origin, called ``name`` each time."""
        peer, origin = self._find(node, name)
        if not self._has_begun and self._has_place(peer, origin):
            self._begin()
            return Turn(self, peer, origin)
        granted: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        origin.line.append(granted)
        peer.waiting[name] = origin
        self._waiting[node] = peer
        try:
            return await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                granted.result().end()
            raise

    def continue_soon(self) -> None:
        """Begin another one, if it may be, in the next turn of the event loop."""
        if self._waiting and not self._has_begun:
            self._begin()

    def _begin(self) -> None:
        self._has_begun = True
        asyncio.get_running_loop().call_soon(self._begin_next)

    def _begin_next(self) -> None:
        self._has_begun = False
        while (found := self._next_in_turn()) is not None:
            granted, peer, origin = found
            if not granted.done():
                granted.set_result(Turn(self, peer, origin))
                self._begin()
                return

    def _next_in_turn(self) -> tuple[asyncio.Future[Turn], _Peer, _Origin] | None:
        """Take who is next out of its line, and put its peer and its origin last."""
        for node, peer in self._waiting.items():
            for name, origin in peer.waiting.items():
                if self._has_place(peer, origin):
                    granted = origin.line.popleft()
                    del peer.waiting[name]
                    if origin.line:
                        peer.waiting[name] = origin
                    del self._waiting[node]
                    if peer.waiting:
                        self._waiting[node] = peer
                    return granted, peer, origin
        return None

    def _has_place(self, peer: _Peer, origin: _Origin) -> bool:
        if self._origins == 1:
            return True
        share = max(_SMALLEST_SHARE, _PLACES // len(self._peers))
        if peer.under_way >= share:
            return False
        return origin.under_way < max(_SMALLEST_SHARE, share // len(peer.origins))

    def _find(self, node: NodeIdentity, name: bytes) -> tuple[_Peer, _Origin]:
        now = self._clock.monotonic()
        if now - self._swept_at > _REMEMBERED_SECONDS:
            self._swept_at = now
            self._forget_before(now - _REMEMBERED_SECONDS)
        peer = self._peers.setdefault(node, _Peer())
        origin = peer.origins.get(name)
        if origin is None:
            origin = peer.origins[name] = _Origin(now)
            self._origins += 1
        origin.last_at = now
        return peer, origin

    def _forget_before(self, moment: float) -> None:
        """Forget who has asked for nothing since, and has nothing under way."""
        for node, peer in list(self._peers.items()):
            for name, origin in list(peer.origins.items()):
                if origin.last_at < moment and not origin.under_way and not origin.line:
                    del peer.origins[name]
                    self._origins -= 1
            if not peer.origins:
                del self._peers[node]
