"""How often one requester may ask: a token bucket each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_agent.clock import Clock

__all__ = ["TokenBuckets"]


class TokenBuckets:
    """One bucket per name; ``burst`` tokens at most, ``per_second`` come back.

    Names come from the requester objects, never from strangers, so their number is bounded.
    """

    def __init__(self, *, per_second: float, burst: float, clock: Clock) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Name to (tokens left, when that was so)."""

    def take(self, name: str) -> float:
        """Take a token; return 0, or the seconds until there will be one when there is none."""
        now = self._clock.monotonic()
        left, since = self._buckets.get(name, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        if left < 1.0:
            self._buckets[name] = (left, now)
            return (1.0 - left) / self._per_second
        self._buckets[name] = (left - 1.0, now)
        return 0.0
