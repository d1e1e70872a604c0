"""A pool without sockets: the real plan and the real slot table against a network in a variable.

Time moves only in ``run_for``; days pass in milliseconds. What a dial does depends on
``network``: healthy (it takes ``dial_seconds``), refusing (it fails at once), silent (it hangs).
"""

from __future__ import annotations

import enum
import math
import random
from collections import Counter
from typing import TYPE_CHECKING

from node_agent.pool.plan import Close, Dial, Drain, Reason, SlotPhase, WakeAt, plan
from node_agent.pool.slot import Slot, SlotTable

if TYPE_CHECKING:
    from node_agent.pool.settings import PoolSettings

__all__ = ["NetworkState", "SimulatedPool"]

_MAX_ROUNDS = 50


class NetworkState(enum.Enum):
    """What happens to a dial."""

    HEALTHY = "healthy"
    REFUSING = "refusing"
    SILENT = "silent"


class SimulatedPool:
    """Drive a SlotTable with ``plan`` and check the rules of plan.py after every round."""

    def __init__(
        self, settings: PoolSettings, *, seed: int = 1, dial_seconds: float = 0.05
    ) -> None:
        self.now = 1000.0
        self.network = NetworkState.HEALTHY
        self.dial_seconds = dial_seconds
        self.queued = 0
        self.table: SlotTable[str] = SlotTable(settings, random.Random(seed).random)
        self.dials_started: list[float] = []
        self.drained: Counter[Reason] = Counter()
        self.busy: set[int] = set()
        self._wake_at = math.inf

    @property
    def settings(self) -> PoolSettings:
        return self.table.settings

    def phases(self, phase: SlotPhase) -> list[Slot[str]]:
        return self.table.in_phase(phase)

    @property
    def open(self) -> list[Slot[str]]:
        return self.table.in_phase(SlotPhase.OPEN)

    def update(self, settings: PoolSettings) -> None:
        self.table.settings = settings
        self.table.forgive()
        self.settle()

    def expire_all(self) -> None:
        self.table.expire_all()
        self.settle()

    def lose(self, slot: Slot[str]) -> None:
        self.table.link_lost(slot, self.now)
        self.busy.discard(slot.slot_id)
        self.settle()

    def set_busy(self, slot: Slot[str], busy: bool) -> None:
        (self.busy.add if busy else self.busy.discard)(slot.slot_id)
        self.table.mark_use(slot, last_used_at=None if busy else self.now)

    def settle(self) -> None:
        """Plan and perform until only waiting is left."""
        for _ in range(_MAX_ROUNDS):
            if not self._round():
                self.check()
                return
        raise AssertionError("the plan never comes to rest")

    def run_for(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.now + seconds
        self.settle()
        while (at := min(self._wake_at, self._next_completion())) <= end:
            self.now = max(self.now, at)
            self._complete()
            self.settle()
        self.now = end
        self.settle()

    def check(self) -> None:
        """The rules that hold at rest."""
        settings = self.settings
        opened = len(self.open)
        dialing = self.table.in_phase(SlotPhase.DIALING)
        fresh = [slot for slot in dialing if self.now < slot.since + settings.dial_patience_seconds]
        extra = settings.min_connections == settings.max_connections
        assert opened <= settings.max_connections
        assert opened + len(fresh) <= settings.max_connections + extra
        assert len(dialing) - len(fresh) <= 1
        if not settings.enabled:
            assert not opened
            assert not dialing
        assert self._wake_at > self.now

    def _round(self) -> bool:
        self.table.settled(self.now)
        changed = False
        self._wake_at = math.inf
        for action in plan(self.table.state(self.queued), self.settings, self.now):
            match action:
                case WakeAt(at):
                    self._wake_at = at
                    continue
                case Dial(replaces):
                    self._dial(replaces)
                case Drain(slot_id, reason):
                    self._drain(slot_id, reason)
                case Close(slot_id, reason):
                    self._give_up(slot_id, reason)
            changed = True
        return changed

    def _dial(self, replaces: int | None) -> None:
        slot = self.table.begin_dial(self.now, replaces=replaces)
        self.dials_started.append(self.now)
        if self.network is NetworkState.REFUSING:
            self.table.dial_failed(slot, self.now)

    def _drain(self, slot_id: int, reason: Reason) -> None:
        slot = self.table[slot_id]
        before = len(self.open)
        if reason not in (Reason.DISABLED, Reason.SURPLUS):
            assert before > self.settings.min_connections
        self.drained[reason] += 1
        self.table.begin_drain(slot, self.now)

    def _give_up(self, slot_id: int, reason: Reason) -> None:
        slot = self.table[slot_id]
        if reason is Reason.SLOW:
            self.table.dial_failed(slot, self.now)
        else:
            self.table.remove(slot)

    def _next_completion(self) -> float:
        dials = (
            (slot.since + self.dial_seconds for slot in self.phases(SlotPhase.DIALING))
            if self.network is NetworkState.HEALTHY
            else ()
        )
        drains = (
            slot.since + 1
            for slot in self.phases(SlotPhase.DRAINING)
            if slot.slot_id not in self.busy
        )
        return max(self.now, min((*dials, *drains), default=math.inf))

    def _complete(self) -> None:
        for slot in self.phases(SlotPhase.DRAINING):
            if slot.slot_id not in self.busy and self.now >= slot.since + 1:
                self.table.remove(slot)
        for slot in self.phases(SlotPhase.DIALING):
            if self.network is NetworkState.HEALTHY and self.now >= slot.since + self.dial_seconds:
                self.table.dial_succeeded(slot, f"link {slot.slot_id}", self.now)
