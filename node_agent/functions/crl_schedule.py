"""Which CA's CRLs are to be looked at next, and when: a heap, without clock or store.

A round costs as much as is due, not as much as there are CAs. What somebody waits for (a status has
changed) comes before what is merely due, however much of that there is.
"""

from __future__ import annotations

import heapq

__all__ = ["CrlSchedule"]


class CrlSchedule:
    """Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._urgent: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._at)

    def clear(self) -> None:
        """Forget every time; what is urgent stays so."""
        self._at.clear()
        self._heap.clear()

    def put(self, name: str, at: float) -> None:
        """Look at ``name`` at this time, instead of any other."""
        self._at[name] = at
        heapq.heappush(self._heap, (at, name))

    def hurry(self, name: str) -> None:
        """Look at ``name`` first of all."""
        self._urgent[name] = None

    def take(self, now: float) -> str | None:
        """Return the next one to look at by ``now``, and drop it; None when nothing is due."""
        if self._urgent:
            name = next(iter(self._urgent))
            del self._urgent[name]
            return name
        self._drop_outdated()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, name = heapq.heappop(self._heap)
        del self._at[name]
        return name

    def seconds_until_next(self, now: float) -> float:
        """Return how long nothing is due; infinite when nothing is planned."""
        if self._urgent:
            return 0.0
        self._drop_outdated()
        return max(0.0, self._heap[0][0] - now) if self._heap else float("inf")

    def _drop_outdated(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
