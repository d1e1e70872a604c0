"""What a peer can bring about as often as it likes is written once a minute, with its number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity

__all__ = ["Repeats"]

_QUIET_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1000


class Repeats:
    """Counts by peer and a code of ours. The words beside a code are no part of what is the same:
    they hold numbers of the peer's choosing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted: dict[tuple[NodeIdentity, str], tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._noted)

    def unwritten(self, peer: NodeIdentity, code: str) -> int | None:
        """Return how often it happened unwritten since it was last written, for an entry that is to
        be written now; None when it was just now.
        """
        now = self._clock.monotonic()
        since, times = self._noted.get((peer, code), (now - _QUIET_SECONDS, 0))
        if now - since < _QUIET_SECONDS:
            self._noted[peer, code] = (since, times + 1)
            return None
        if len(self._noted) >= _MOST_REMEMBERED:
            self._noted.clear()
        self._noted[peer, code] = (now, 0)
        return times
