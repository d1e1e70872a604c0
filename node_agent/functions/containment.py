"""An unexpected failure of one item is that item's: the loop that serves all of them goes on.

Standing tasks work on what others sent: answers of peers, and rows made of what peers and
requesters said. What can be foreseen is checked where it comes in, and is a NodeAgentError. What
nobody foresaw is a bug of ours; but did it end the node, whoever finds such an input could end it
at will, and one that became a row would end it again at every start. So it becomes an
UnexpectedFailure of the item at hand: logged with its trace, shown where the item's other errors
are, and tried again later and later.

Outside of any item the node still ends (``service/node.py``): there nothing tells what still holds.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError, UnexpectedFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.clock import Clock

__all__ = ["Containment"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 1.0
# A trace every five minutes is seen, and fills no disk.
_LONGEST_PAUSE_SECONDS: Final = 300.0
# Two failures farther apart than this have nothing to do with each other.
_FORGOTTEN_AFTER_SECONDS: Final = 2 * _LONGEST_PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class _Failed:
    times: int
    at: float
    pause_seconds: float


class Containment:
    """What failed unexpectedly of one kind of ``work``, and how long it is to be left alone."""

    def __init__(self, work: str, *, clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._failed: dict[str, _Failed] = {}

    @contextmanager
    def around(self, item: str) -> Iterator[None]:
        """Raise whatever isn't foreseen as UnexpectedFailure. Cancelling passes, and so do
        NodeAgentError and TimeoutError: the caller knows what to do about those.
        """
        try:
            yield
        except (NodeAgentError, TimeoutError):
            raise
        except Exception as error:
            failed = self.hold_off(item)
            log.exception(
                "unexpected failure",
                work=self._work,
                item=item,
                times=failed.times,
                again_in_seconds=failed.pause_seconds,
            )
            kind = type(error).__name__
            raise UnexpectedFailure(f"failed unexpectedly ({kind}): the log says where") from error
        self._failed.pop(item, None)

    def pause_seconds(self, item: str) -> float:
        """Return for how long ``item`` is still to be left alone; 0 when it may be tried."""
        failed = self._failed.get(item)
        if failed is None:
            return 0.0
        return max(0.0, failed.at + failed.pause_seconds - self._clock.monotonic())

    def hold_off(self, item: str) -> _Failed:
        """Have ``item`` left alone for a while, for longer each time."""
        now, before = self._clock.monotonic(), self._failed.get(item)
        if before is None or now - before.at > _FORGOTTEN_AFTER_SECONDS:
            failed = _Failed(1, now, _FIRST_PAUSE_SECONDS)
        else:
            pause = min(before.pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
            failed = _Failed(before.times + 1, now, pause)
        self._failed[item] = failed
        return failed
