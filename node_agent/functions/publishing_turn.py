"""Whose turn it is to run a publisher, among the nodes that share a store.

One node publishes, the others watch. Nobody holds a lease with a time in it: the store keeps, per
publisher, the position, who runs it, and a number that moves while there is work. A node that sees
entries waiting while none of the three moves takes the turn. So it doesn't matter why the other
one stopped: it died, it hangs, or it alone can't reach the peer. No clock is compared with another,
and an idle publisher costs no write. Should two nodes push for a moment, the receiver applies each
entry once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from node_agent.errors import NodeAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.clock import Clock
    from node_agent.store.api import Writer

__all__ = ["BEAT_SECONDS", "OnlyTurn", "SharedTurn", "Turn", "TurnLost"]

BEAT_SECONDS: Final = 1.0
"""How often the node that publishes says that it still does, while there is work."""

_PATIENCE_SECONDS: Final = 3.0
"""Three beats missed."""

_MOST_PATIENCE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5


class TurnLost(NodeAgentError):
    """Another node publishes now."""


class Turn(Protocol):
    """What a publisher asks before, while and after it works. ``key`` names the publisher."""

    async def take(self, key: str, is_behind: Callable[[int], Awaitable[bool]]) -> None:
        """Return when this node is to publish. ``is_behind`` tells of a position whether anything
        for the peer lies above it.
        """
        ...

    async def keep(self, key: str, position: int) -> None:
        """Note how far the peer is. Raises TurnLost when another node has the turn."""
        ...

    def failed(self) -> None:
        """Note that this node couldn't publish: others may try first next time."""
        ...


class OnlyTurn:
    """The turn of a node that has its store for itself: always its own."""

    def __init__(self, store: Writer) -> None:
        self._store = store

    async def take(self, key: str, is_behind: Callable[[int], Awaitable[bool]]) -> None:
        """Return at once."""

    async def keep(self, key: str, position: int) -> None:
        """Note how far the peer is."""
        await self._store.set_publisher_position(key, position)

    def failed(self) -> None:
        """Do nothing: nobody else could."""


class SharedTurn:
    """A turn that passes between the nodes of a store."""

    def __init__(self, store: Writer, *, node: str, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._patience = _PATIENCE_SECONDS

    async def take(self, key: str, is_behind: Callable[[int], Awaitable[bool]]) -> None:
        """Watch until the node that has the turn stops, or nobody ever had it."""
        mark = await self._store.publisher_mark(key)
        since = self._clock.monotonic()
        while mark.holder != self._node:
            if not mark.holder:
                mark = await self._store.take_turn(key, mark)
                continue
            if not await is_behind(mark.position):
                since = self._clock.monotonic()
            elif self._clock.monotonic() - since >= self._patience:
                mark = await self._store.take_turn(key, mark)
                since = self._clock.monotonic()
                continue
            await self._clock.sleep(_LOOK_SECONDS)
            seen, mark = mark, await self._store.publisher_mark(key)
            if mark != seen:
                since = self._clock.monotonic()

    async def keep(self, key: str, position: int) -> None:
        """Note how far the peer is, and that this node goes on."""
        mark = await self._store.keep_turn(key, position)
        self._patience = _PATIENCE_SECONDS
        if mark.holder != self._node:
            raise TurnLost(f"{mark.holder} publishes now")

    def failed(self) -> None:
        """Be more patient: while a peer is away for all, the turn needn't go round and round."""
        self._patience = min(self._patience * 2, _MOST_PATIENCE_SECONDS)
