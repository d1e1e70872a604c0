"""Requests that wait for a credit: one line for each set of peers that may serve them.

Nothing here knows links. ``serve`` is handed a function that finds a credit for a set of peers and
gives each to who is next, over all lines. Askers take turns: each place is numbered as it comes,
but of two of one asker's the second as if it had come when the first was served (start-time fair
queueing). So nobody waits for all that another one has brought before.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.identity import NodeIdentity

__all__ = ["PeerSet", "Waiter", "WaitingLines"]

CreditT = TypeVar("CreditT")
PeerSet = tuple["NodeIdentity", ...]


@dataclass(slots=True, eq=False)
class Waiter(Generic[CreditT]):
    """A place in a line. ``credit`` resolves when it is served. ``asker`` brought the request."""

    number: tuple[int, int]
    peers: PeerSet
    credit: asyncio.Future[CreditT]
    asker: NodeIdentity | None = None


class WaitingLines(Generic[CreditT]):
    """All lines. ``on_change`` is called whenever somebody comes or leaves."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        # Each in the order of its numbers.
        self._lines: dict[PeerSet, list[Waiter[CreditT]]] = {}
        self._count = 0
        self._askers: Counter[NodeIdentity | None] = Counter()
        self._arrivals = itertools.count()
        # Rounds of turns: the one that is served now, and the last one in which an asker has one.
        self._round = 0
        self._last_rounds: dict[NodeIdentity | None, int] = {}
        self._on_change = on_change

    def __len__(self) -> int:
        return self._count

    def has_line(self, peers: PeerSet) -> bool:
        """Tell whether somebody waits for exactly these peers."""
        return peers in self._lines

    def count_for(self, peer: NodeIdentity) -> int:
        """Return how many wait that ``peer`` could serve."""
        return sum(len(line) for peers, line in self._lines.items() if peer in peers)

    def count_of(self, asker: NodeIdentity) -> int:
        """Return how many wait that ``asker`` brought."""
        return self._askers[asker]

    def join(self, peers: PeerSet, asker: NodeIdentity | None = None) -> Waiter[CreditT]:
        """Take a place behind all that ``asker`` has; without one, behind this node's own."""
        future: asyncio.Future[CreditT] = asyncio.get_running_loop().create_future()
        turn = max(self._round, self._last_rounds.get(asker, 0)) + 1
        self._last_rounds[asker] = turn
        waiter = Waiter((turn, next(self._arrivals)), peers, future, asker)
        bisect.insort(self._lines.setdefault(peers, []), waiter, key=_number)
        self._count += 1
        self._askers[asker] += 1
        self._on_change()
        return waiter

    def leave(self, waiter: Waiter[CreditT]) -> CreditT | None:
        """Give the place up; return the credit if it was served already, so that it isn't lost."""
        line = self._lines.get(waiter.peers)
        if line is not None and waiter in line:
            line.remove(waiter)
            self._left(waiter)
            return None
        was_served = waiter.credit.done() and not waiter.credit.cancelled()
        return waiter.credit.result() if was_served else None

    def serve(self, find: Callable[[PeerSet], Callable[[], CreditT] | None]) -> None:
        """Serve as many as there are credits. ``find`` returns how to take one, or None."""
        blocked: set[PeerSet] = set()
        while len(blocked) < len(self._lines):
            heads = ((line[0].number, key) for key, line in self._lines.items())
            _, peers = min(head for head in heads if head[1] not in blocked)
            take = find(peers)
            if take is None:
                blocked.add(peers)
                continue
            waiter = self._lines[peers].pop(0)
            self._round = max(self._round, waiter.number[0])
            self._left(waiter)
            # A cancelled waiter's future is done before it could leave the line.
            if not waiter.credit.done():
                waiter.credit.set_result(take())

    def _left(self, waiter: Waiter[CreditT]) -> None:
        self._count -= 1
        if not self._lines[waiter.peers]:
            del self._lines[waiter.peers]
        self._askers[waiter.asker] -= 1
        if not self._askers[waiter.asker]:
            del self._askers[waiter.asker], self._last_rounds[waiter.asker]
        self._on_change()


def _number(waiter: Waiter[CreditT]) -> tuple[int, int]:
    return waiter.number
