"""The slots of a pool and what each event does to them. Synchronous: no waiting, no I/O.

A slot outlives its dial and its link; whatever way these end, the slot ends in ``remove``, and
there is no other way out. The simulation in the property tests drives this very table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from node_agent.pool.plan import PoolState, SlotPhase, SlotView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.pool.settings import PoolSettings

__all__ = ["Slot", "SlotTable"]

LinkT = TypeVar("LinkT")

# Links opened together are replaced over the last tenth of the maximum age.
_AGE_SPREAD = 0.1


@dataclass(slots=True, eq=False)
class Slot(Generic[LinkT]):
    """One place in the pool. ``link`` is set from open until it is removed.

    ``failures_before`` are the consecutive failures at the time of its dial: a link that doesn't
    settle gives them back.
    """

    slot_id: int
    generation: int
    since: float
    age_share: float
    failures_before: int
    replaces: int | None = None
    phase: SlotPhase = SlotPhase.DIALING
    idle_since: float | None = None
    link: LinkT | None = None

    def view(self) -> SlotView:
        """Return the immutable view that the plan reads."""
        return SlotView(
            slot_id=self.slot_id,
            phase=self.phase,
            generation=self.generation,
            since=self.since,
            idle_since=self.idle_since,
            age_share=self.age_share,
            replaces=self.replaces,
        )


class SlotTable(Generic[LinkT]):
    """All slots of one pool, with the counters that the back-off needs.

    ``draw`` returns a random number in [0, 1).
    """

    def __init__(self, settings: PoolSettings, draw: Callable[[], float]) -> None:
        self.settings = settings
        self.generation = 0
        self.failures = 0
        self._draw = draw
        self._failing_since: float | None = None
        self._last_dial_at = -math.inf
        self._jitter = draw()
        self._slots: dict[int, Slot[LinkT]] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, slot_id: int) -> Slot[LinkT]:
        return self._slots[slot_id]

    def get(self, slot_id: int) -> Slot[LinkT] | None:
        """Return the slot, or None when it has ended."""
        return self._slots.get(slot_id)

    def in_phase(self, *phases: SlotPhase) -> list[Slot[LinkT]]:
        """Return the slots in one of ``phases``, oldest first."""
        return [slot for slot in self._slots.values() if slot.phase in phases]

    def state(self, queued: int) -> PoolState:
        """Return what the plan reads."""
        return PoolState(
            slots=tuple(slot.view() for slot in self._slots.values()),
            generation=self.generation,
            queued=queued,
            failures=self.failures,
            failing_since=self._failing_since,
            last_dial_at=self._last_dial_at,
            jitter=self._jitter,
        )

    def begin_dial(self, now: float, *, replaces: int | None = None) -> Slot[LinkT]:
        """Take a slot for a dial that starts now."""
        slot: Slot[LinkT] = Slot(
            slot_id=self._next_id,
            generation=self.generation,
            since=now,
            age_share=1 - _AGE_SPREAD * self._draw(),
            failures_before=self.failures,
            replaces=replaces,
        )
        self._next_id += 1
        self._last_dial_at = now
        self._jitter = self._draw()
        self._slots[slot.slot_id] = slot
        return slot

    def dial_succeeded(self, slot: Slot[LinkT], link: LinkT, now: float) -> None:
        """Put the link into its slot; the address is healthy."""
        slot.phase = SlotPhase.OPEN
        slot.since = slot.idle_since = now
        slot.link = link
        self.failures = 0

    def dial_failed(self, slot: Slot[LinkT], now: float) -> None:
        """Free the slot and slow down."""
        self.remove(slot)
        self._count_failure(self.failures, now)

    def link_lost(self, slot: Slot[LinkT], now: float) -> None:
        """Free the slot of a link that ended; one that never settled counts as a failed dial."""
        was_open = slot.phase is SlotPhase.OPEN
        self.remove(slot)
        if was_open and now - slot.since < self.settings.settle_seconds:
            self._count_failure(max(self.failures, slot.failures_before), now)

    def begin_drain(self, slot: Slot[LinkT], now: float) -> None:
        """Mark the link as ending: it takes no new request and no longer counts."""
        slot.phase = SlotPhase.DRAINING
        slot.since = now

    def peer_drains(self, slot: Slot[LinkT], now: float) -> None:
        """Mark a link that the peer ends in peace; one that it ends at once counts as a failure."""
        age = now - slot.since
        self.begin_drain(slot, now)
        if age < self.settings.settle_seconds:
            self._count_failure(max(self.failures, slot.failures_before), now)

    def mark_use(self, slot: Slot[LinkT], *, last_used_at: float | None) -> None:
        """Note that the link is in use (None) or has been idle since ``last_used_at``."""
        slot.idle_since = None if last_used_at is None else max(slot.since, last_used_at)

    def remove(self, slot: Slot[LinkT]) -> None:
        """Free the slot, whatever its phase; a second time does nothing."""
        self._slots.pop(slot.slot_id, None)

    def expire_all(self) -> None:
        """Make every slot of today one of yesterday: each is replaced."""
        self.generation += 1

    def forgive(self) -> None:
        """Forget past failures: what caused them may have just been changed."""
        self.failures = 0
        self._failing_since = None

    def settled(self, now: float) -> None:
        """End the outage once some link has lasted; called before each plan."""
        if self._failing_since is not None and any(self._has_settled(slot, now) for slot in self):
            self._failing_since = None

    def __iter__(self) -> Iterator[Slot[LinkT]]:
        return iter(tuple(self._slots.values()))

    def _has_settled(self, slot: Slot[LinkT], now: float) -> bool:
        return slot.phase is SlotPhase.OPEN and now - slot.since >= self.settings.settle_seconds

    def _count_failure(self, before: int, now: float) -> None:
        self.failures = before + 1
        if self._failing_since is None:
            self._failing_since = now
