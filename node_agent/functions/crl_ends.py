"""When the newest CRLs end, own ones and received ones: what health and metrics say of them.

Kept in memory, because health is asked for at any moment and must not wait for the store. Of a CA
whose list is divided it is the shard that ends first: each is made by itself, and reaches others by
itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from node_agent.functions.node_objects import AuthorityState, NodeObjects, decode_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from node_agent.clock import Clock
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.store.records import CrlHead, CrlRecord

__all__ = ["CrlEnds", "CrlWatch"]


class CrlEnds:
    """Number and nextUpdate of each shard's newest list, by authority id."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[int, tuple[int, int]]] = {}
        self._first: float = math.inf

    def load(self, newest: Mapping[tuple[str, int], CrlHead]) -> None:
        """Take up what the store has, by authority id and shard."""
        for (authority_id, shard), head in newest.items():
            self.note(authority_id, shard, head.number, head.next_update)

    def made(self, crl: CrlRecord) -> None:
        """Take up a list that was made or received."""
        if crl.base_number is None:
            self.note(crl.authority_id, crl.shard, crl.number, crl.next_update)

    def note(self, authority_id: str, shard: int, number: int, next_update: int) -> None:
        """Note when a list ends, unless a newer one is known."""
        lists = self._lists.setdefault(authority_id, {})
        known, end = lists.get(shard, (0, math.inf))
        if known > number:
            return
        lists[shard] = number, next_update
        if end > self._first:
            self._first = min(self._first, next_update)
        else:
            self._first = min(_first_end(lists) for lists in self._lists.values())

    def get(self, authority_id: str) -> int | None:
        """Return when the first of a CA's newest lists ends; None: there is none."""
        lists = self._lists.get(authority_id)
        return None if lists is None else _first_end(lists)

    def overdue(self, now: float) -> list[tuple[str, int]]:
        """Return authority id and end of the CAs of which a list has ended."""
        if self._first > now:
            return []
        ends = ((one, _first_end(lists)) for one, lists in self._lists.items())
        return [(one, end) for one, end in ends if end <= now]


def _first_end(lists: Mapping[int, tuple[int, int]]) -> int:
    return min(end for _, end in lists.values())


class CrlWatch:
    """What is to be said of a node's CRLs. ``failed`` are those that can't be made, by CA name."""

    def __init__(
        self,
        ends: CrlEnds,
        *,
        objects: NodeObjects,
        known: KnownAuthorities,
        failed: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._ends = ends
        self._objects = objects
        self._known = known
        self._failed = failed
        self._clock = clock

    def errors(self) -> Iterable[tuple[str, str]]:
        """Return why lists weren't made, with the names of their CAs."""
        return self._failed.items()

    def ends(self) -> Iterator[tuple[str, int]]:
        """Yield the name of each CA that has a list, and when the first of its newest ends."""
        for known in self._served():
            end = self._ends.get(known.authority_id)
            if end is not None:
                yield known.name, end

    def overdue(self) -> list[tuple[str, int]]:
        """Return name and end of the lists that have ended, of CAs that haven't."""
        now = self._clock.now()
        ended = dict(self._ends.overdue(now))
        if not ended:
            return []
        return [
            (known.name, ended[known.authority_id])
            for known in self._served()
            if known.authority_id in ended and known.outline.not_after > now
        ]

    def overdue_seconds(self) -> float:
        """Return how long ago the first of them ended; 0 while none has."""
        now = self._clock.now()
        return max((now - end for _, end in self.overdue()), default=0.0)

    def _served(self) -> Iterator[KnownAuthority]:
        """Yield the CAs of which lists are made or received here; none that was deleted."""
        own = {
            decode_state(item, AuthorityState).authority_id
            for item in self._objects.all("certification_authorities")
        }
        return (one for one in self._known.all() if not one.is_own or one.authority_id in own)
