"""What a pool should do now: a pure function over its state.

Nothing here waits, so nothing here races. ``ConnectorPool`` calls ``plan`` after every event (a
dial ended, a link was lost, somebody queues, a timer rang, settings changed) and performs what it
returns; the next call sees the result. These rules hold after every round:

1. At most ``max_connections`` links are open, and no more than that are open or freshly dialled.
   One extra is allowed while a link is being replaced in a pool whose minimum is its maximum,
   because it could otherwise not be replaced without falling below the minimum.
2. A link that is too old, or of an older generation, is replaced first and drained then. Only
   where the pool is full and above its minimum is it drained first.
3. A dial that has taken longer than the patience doesn't hold up the next one. The oldest of such
   slow dials is left to finish (the network may just be slow); the others are given up.
4. After a failure there is one fresh dial at a time, at a pace with full jitter, measured from
   start to start: time spent waiting for a dead address counts as having waited.
5. A pool that is switched off drains what is open and gives up what is being dialled.

Draining links don't count: they take no new request and end within the drain timeout.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.pool.settings import PoolSettings

__all__ = [
    "Action",
    "Close",
    "Dial",
    "Drain",
    "PoolState",
    "Reason",
    "SlotPhase",
    "SlotView",
    "WakeAt",
    "next_dial_at",
    "plan",
]

# The least pace of dials to an address that refuses at once, whatever the jitter says.
_MIN_PACE_SECONDS = 0.05
# The cap of the back-off is this share of the outage's length, once that exceeds the short cap:
# 1.5 s up to ten minutes, 9 s after an hour, 30 s after three hours and a third.
_CAP_PER_OUTAGE_SECOND = 1 / 400
# 2 ** 16 times the base is beyond any cap; a larger exponent would only overflow.
_MAX_DOUBLINGS = 16


class SlotPhase(enum.Enum):
    """Where a slot is in its life."""

    DIALING = "dialing"
    OPEN = "open"
    DRAINING = "draining"


class Reason(enum.StrEnum):
    """Why a link is drained or a dial given up."""

    DISABLED = "disabled"
    SURPLUS = "over the maximum"
    REPLACED = "replaced"
    EXPIRED = "too old"
    IDLE = "idle"
    SLOW = "dial took too long"


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot. ``since`` is when its phase began; ``idle_since`` None means in use.

    ``age_share`` (0..1] scales the maximum age, so that links opened together don't end together.
    ``replaces`` is the slot whose place this one takes.
    """

    slot_id: int
    phase: SlotPhase
    generation: int
    since: float
    idle_since: float | None = None
    age_share: float = 1.0
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """All that the plan depends on. ``queued`` counts requests that wait, at either end.

    ``failures`` are consecutive, ``failing_since`` is when the first of them began,
    ``last_dial_at`` when the latest dial began; ``jitter`` in [0, 1) is drawn anew for each dial.
    """

    slots: tuple[SlotView, ...] = ()
    generation: int = 0
    queued: int = 0
    failures: int = 0
    failing_since: float | None = None
    last_dial_at: float = -math.inf
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a link, in place of slot ``replaces`` if that is given."""

    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Let the slot's link finish what runs on it, then close it."""

    slot_id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Close:
    """Give up the slot's dial."""

    slot_id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Plan again at this time at the latest."""

    at: float


Action = Dial | Drain | Close | WakeAt


def plan(state: PoolState, settings: PoolSettings, now: float) -> list[Action]:
    """Return what to do at ``now``; a second call with nothing performed returns the same."""
    if not settings.enabled:
        return _switch_off(state)
    return _Round(state, settings, now).actions()


def next_dial_at(state: PoolState, settings: PoolSettings, now: float) -> float:
    """Return the earliest time for the next dial: full jitter below a ceiling that doubles."""
    if state.failures == 0:
        return -math.inf
    doublings = min(state.failures - 1, _MAX_DOUBLINGS)
    ceiling = min(settings.backoff_base_seconds * 2.0**doublings, _cap(state, settings, now))
    return state.last_dial_at + max(_MIN_PACE_SECONDS, state.jitter * ceiling)


def _cap(state: PoolState, settings: PoolSettings, now: float) -> float:
    if state.queued or state.failing_since is None:
        return settings.backoff_cap_seconds
    grown = (now - state.failing_since) * _CAP_PER_OUTAGE_SECOND
    return min(max(settings.backoff_cap_seconds, grown), settings.outage_backoff_cap_seconds)


def _switch_off(state: PoolState) -> list[Action]:
    actions: list[Action] = []
    for slot in state.slots:
        if slot.phase is SlotPhase.OPEN:
            actions.append(Drain(slot.slot_id, Reason.DISABLED))
        elif slot.phase is SlotPhase.DIALING:
            actions.append(Close(slot.slot_id, Reason.DISABLED))
    return actions


class _Round:
    """One pass. ``open``, ``fresh`` and ``slow`` shrink and ``dials`` grows as it decides."""

    def __init__(self, state: PoolState, settings: PoolSettings, now: float) -> None:
        self.state = state
        self.settings = settings
        self.now = now
        self.ended: list[Action] = []
        self.dials: list[Dial] = []
        self.postponed = False
        self.open = [slot for slot in state.slots if slot.phase is SlotPhase.OPEN]
        dialing = [slot for slot in state.slots if slot.phase is SlotPhase.DIALING]
        self.fresh = [slot for slot in dialing if not self._is_slow(slot)]
        self.slow = [slot for slot in dialing if self._is_slow(slot)]

    def actions(self) -> list[Action]:
        """Run the rules in their order of precedence."""
        self._give_up_dials()
        self._drain_replaced()
        self._drain_surplus()
        self._fill_to_minimum()
        self._renew_expired()
        self._grow()
        self._shrink()
        wake_at = self._wake_at()
        wake: list[Action] = [WakeAt(wake_at)] if wake_at < math.inf else []
        return [*self.ended, *self.dials, *wake]

    def _give_up_dials(self) -> None:
        for slot in (*self.fresh, *self.slow):
            if slot.generation != self.state.generation:
                self._close(slot, Reason.EXPIRED)
        self.slow.sort(key=lambda slot: slot.since)
        for slot in self.slow[1:]:
            self._close(slot, Reason.SLOW)
        for slot in self.slow[:1]:
            if self.now >= slot.since + self.settings.dial_timeout_seconds:
                self._close(slot, Reason.SLOW)

    def _drain_replaced(self) -> None:
        replaced = {slot.replaces for slot in self.open}
        for slot in [slot for slot in self.open if slot.slot_id in replaced]:
            # Others may have been lost meanwhile; then the replacement stands in for those, and
            # this one is renewed again.
            if len(self.open) > self.settings.min_connections:
                self._drain(slot, Reason.REPLACED)

    def _drain_surplus(self) -> None:
        surplus = len(self.open) - self.settings.max_connections
        for slot in sorted(self.open, key=self._dispensable)[: max(0, surplus)]:
            self._drain(slot, Reason.SURPLUS)
        growing = [slot for slot in self.fresh if slot.replaces is None]
        for slot in growing[max(0, self.settings.max_connections - len(self.open)) :]:
            self._close(slot, Reason.SURPLUS)
        replacing = [slot for slot in self.fresh if slot.replaces is not None]
        if self._taken() > self.settings.max_connections + self._is_fixed_size():
            for slot in replacing:
                self._close(slot, Reason.SURPLUS)

    def _is_fixed_size(self) -> bool:
        return self.settings.min_connections == self.settings.max_connections

    def _renew_expired(self) -> None:
        for slot in sorted(self.open, key=lambda slot: slot.since):
            if self._is_expired(slot):
                self._renew(slot)

    def _renew(self, slot: SlotView) -> None:
        spare = len(self.open) > self.settings.min_connections
        full = self._taken() >= self.settings.max_connections
        if spare and (full or (slot.idle_since is not None and not self.state.queued)):
            self._drain(slot, Reason.EXPIRED)
        elif not self._is_replacing() and (not full or self._is_fixed_size()):
            self._dial(replaces=slot.slot_id)

    def _is_replacing(self) -> bool:
        return any(slot is not None for slot in self._places_taken())

    def _fill_to_minimum(self) -> None:
        for _ in range(self.settings.min_connections - len(self.open) - self._growing()):
            if not self._dial():
                return

    def _grow(self) -> None:
        if not self.state.queued or self._growing():
            return
        needed = math.ceil(self.state.queued / self.settings.requests_per_connection)
        room = self.settings.max_connections - self._taken()
        # At most doubling per round: the first new link may already clear the queue.
        for _ in range(min(needed, room, max(1, len(self.open)))):
            if not self._dial():
                return

    def _shrink(self) -> None:
        if self.state.queued:
            return
        being_replaced = {slot.replaces for slot in self.fresh}
        for slot in sorted(self.open, key=self._dispensable):
            if len(self.open) <= self.settings.min_connections:
                return
            if slot.slot_id not in being_replaced and self._idle_until(slot) <= self.now:
                self._drain(slot, Reason.IDLE)

    def _dial(self, *, replaces: int | None = None) -> bool:
        failing = self.state.failures > 0 or bool(self.slow)
        if failing and (self.fresh or self.dials):
            return False
        if self.now < next_dial_at(self.state, self.settings, self.now):
            self.postponed = True
            return False
        self.dials.append(Dial(replaces))
        return True

    def _drain(self, slot: SlotView, reason: Reason) -> None:
        self.open.remove(slot)
        self.ended.append(Drain(slot.slot_id, reason))

    def _close(self, slot: SlotView, reason: Reason) -> None:
        holder = self.fresh if slot in self.fresh else self.slow
        self.ended.append(Close(slot.slot_id, reason))
        # A copy, because the callers iterate over slices or copies of these lists.
        holder.remove(slot)

    def _growing(self) -> int:
        """Return how many links are on their way that don't take another's place."""
        return self._places_taken().count(None)

    def _places_taken(self) -> list[int | None]:
        """Return, for each link on its way, the slot that it replaces."""
        return [slot.replaces for slot in self.fresh] + [dial.replaces for dial in self.dials]

    def _taken(self) -> int:
        return len(self.open) + len(self.fresh) + len(self.dials)

    def _is_slow(self, slot: SlotView) -> bool:
        return self.now >= slot.since + self.settings.dial_patience_seconds

    def _expires_at(self, slot: SlotView) -> float:
        if slot.generation != self.state.generation:
            return -math.inf
        return slot.since + self.settings.max_age_seconds * slot.age_share

    def _is_expired(self, slot: SlotView) -> bool:
        return self.now >= self._expires_at(slot)

    def _idle_until(self, slot: SlotView) -> float:
        return math.inf if slot.idle_since is None else slot.idle_since + self.settings.idle_seconds

    def _dispensable(self, slot: SlotView) -> tuple[float, float]:
        """Order by who is missed least: idle the longest, then the oldest."""
        return (math.inf if slot.idle_since is None else slot.idle_since, slot.since)

    def _wake_at(self) -> float:
        return min(
            (at for at in self._alarms() if at > self.now),
            default=math.inf,
        )

    def _alarms(self) -> Sequence[float]:
        alarms = [slot.since + self.settings.dial_patience_seconds for slot in self.fresh]
        alarms += [slot.since + self.settings.dial_timeout_seconds for slot in self.slow]
        alarms += [self._expires_at(slot) for slot in self.open]
        if len(self.open) > self.settings.min_connections:
            alarms += [self._idle_until(slot) for slot in self.open]
        if self.postponed:
            alarms.append(next_dial_at(self.state, self.settings, self.now))
        if self.dials:
            alarms.append(self.now + self.settings.dial_patience_seconds)
        return alarms
