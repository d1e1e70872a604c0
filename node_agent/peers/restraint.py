"""Who is denied again and again waits longer for each denial.

A denial costs us two signatures and a durable audit entry, and a flooding peer can have as many
under way as it has credits. Held back, they use those up without using us: an honest peer beside it
isn't slowed down, and the log isn't filled. What a proxy brings is counted by origin, so that one
tenant's denials hold back that tenant's answers alone. An honest proxy denies before we do what its
roles tell; only that is held back, since what waits takes a credit of all its tenants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity

__all__ = ["Restraint"]

# A peer with a wrong role is denied some dozens of times when a busy RA starts, not hundreds.
_AT_ONCE: Final = 200.0
_PER_SECOND: Final = 50.0
# With 50 credits that is 50 denials a second.
_LONGEST_SECONDS: Final = 1.0
_MOST_ASKERS: Final = 10_000

_Asker = tuple["NodeIdentity", "NodeIdentity"]


class Restraint:
    """Counts denials by link and origin, forgetting 50 a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[_Asker, tuple[float, float]] = {}

    def after_denial(self, peer: NodeIdentity, origin: NodeIdentity) -> float:
        """Count a denial of what ``origin`` asked over a link of ``peer``'s; return for how many
        seconds its answer is to be held back.
        """
        asker = (peer, origin)
        now = self._clock.monotonic()
        count, since = self._counts.get(asker, (0.0, now))
        count = max(0.0, count - (now - since) * _PER_SECOND) + 1
        count = min(count, _AT_ONCE + _LONGEST_SECONDS * _PER_SECOND)
        if asker not in self._counts and len(self._counts) >= _MOST_ASKERS:
            self._counts.clear()
        self._counts[asker] = (count, now)
        return max(0.0, count - _AT_ONCE) / _PER_SECOND
