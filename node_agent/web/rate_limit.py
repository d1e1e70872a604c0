"""How often one requester may ask: a token bucket each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_agent.clock import Clock

__all__ = ["Rate", "TokenBuckets"]


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` requests at once, ``per_second`` in the long run."""

    per_second: float
    burst: float


class TokenBuckets:
    """One bucket per name, as large as the rate given says.

    Names come from the requester objects, never from strangers, so their number is bounded.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Name to (tokens left, when that was so)."""

    def take(self, name: str, rate: Rate) -> float:
        """Take a token; return 0, or the seconds until there will be one when there is none."""
        now = self._clock.monotonic()
        left, since = self._buckets.get(name, (rate.burst, now))
        left = min(rate.burst, left + (now - since) * rate.per_second)
        if left < 1.0:
            self._buckets[name] = (left, now)
            return (1.0 - left) / rate.per_second
        self._buckets[name] = (left - 1.0, now)
        return 0.0
