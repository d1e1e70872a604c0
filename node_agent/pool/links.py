"""The links of a pool and what happens to them: dials end, links close, peers drain.

Everything here changes the slot table and wakes the planner; nothing waits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from node_agent.net.link import Link, LinkChange, LinkState
from node_agent.pool.plan import Reason, SlotPhase

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.clock import Clock
    from node_agent.net.backend import NetSettings
    from node_agent.pool.runner import Runner
    from node_agent.pool.slot import Slot, SlotTable

__all__ = ["PoolLinks"]

log = structlog.get_logger(__name__)


class PoolLinks:
    """Implements ``DialOutcome``. ``on_link`` is given every new link; False refuses it."""

    def __init__(
        self,
        name: str,
        table: SlotTable[Link],
        runner: Runner,
        clock: Clock,
        on_link: Callable[[Link], bool],
    ) -> None:
        self.last_error: str | None = None
        self.last_seen: float | None = None
        self._name = name
        self._table = table
        self._runner = runner
        self._clock = clock
        self._on_link = on_link
        self._slot_of_link: dict[str, Slot[Link]] = {}

    @property
    def open(self) -> list[Link]:
        """The open links, oldest first."""
        slots = self._table.in_phase(SlotPhase.OPEN)
        return [slot.link for slot in slots if slot.link is not None]

    def note_use(self) -> None:
        """Tell the slots which links are in use now, and since when the others aren't."""
        for slot in self._table.in_phase(SlotPhase.OPEN):
            link = slot.link
            if link is not None:
                in_use = bool(link.in_flight or link.serving)
                self._table.mark_use(slot, last_used_at=None if in_use else link.last_used_at)

    def drain(self, slot: Slot[Link], reason: Reason) -> None:
        """Let the slot's link finish what runs on it."""
        link = slot.link
        assert link is not None
        log.info("link drains", connector=self._name, id=link.connection_id, reason=reason.value)
        self._table.begin_drain(slot, self._clock.monotonic())
        self._runner.spawn(link.drain(self._table.settings.drain_seconds))
        self.share_credits()

    def abort_all(self) -> None:
        """Cut every link."""
        for slot in self._table:
            if slot.link is not None:
                slot.link.abort()

    # What dials say (DialOutcome).

    def dial_succeeded(self, slot: Slot[Link], link: Link) -> None:
        """Take the link in, unless the slot was given up in the very moment it succeeded."""
        if self._table.get(slot.slot_id) is None:
            link.abort()
            return
        self._table.dial_succeeded(slot, link, self._clock.monotonic())
        self._slot_of_link[link.connection_id] = slot
        link.add_observer(self._observe)
        # One that has ended already is told of, too: how it did may have to be audited.
        if self._on_link(link) and link.state is not LinkState.CLOSED:
            self.last_error = None
            self.share_credits()

    def dial_failed(self, slot: Slot[Link], reason: str) -> None:
        """Slow down, and remember why."""
        if self._table.get(slot.slot_id) is not None:
            self._table.dial_failed(slot, self._clock.monotonic())
            self._note_failure(reason)

    def dial_ended(self, slot: Slot[Link]) -> None:
        """See to it that no slot stays with a dial that is over."""
        if slot.phase is SlotPhase.DIALING:
            self._table.remove(slot)
        self._runner.wake()

    # What links say.

    def _observe(self, link: Link, change: LinkChange) -> None:
        slot = self._slot_of_link.get(link.connection_id)
        if slot is None or change is LinkChange.CREDITS:
            return
        if change is LinkChange.CLOSED:
            self._closed(slot, link)
        elif change is LinkChange.DRAINING and slot.phase is SlotPhase.OPEN:
            self._table.peer_drains(slot, self._clock.monotonic())
            self._runner.spawn(link.drain(self._table.settings.drain_seconds))
        self._runner.wake()

    def _closed(self, slot: Slot[Link], link: Link) -> None:
        del self._slot_of_link[link.connection_id]
        failures = self._table.failures
        self.last_seen = self._clock.now()
        if slot.phase is SlotPhase.OPEN:
            self.last_error = link.close_reason
        self._table.link_lost(slot, self._clock.monotonic())
        if self._table.failures > failures:
            self._note_failure(link.close_reason)
        self.share_credits()

    def _note_failure(self, reason: str) -> None:
        self.last_error = reason
        failures = self._table.failures
        if failures & (failures - 1) == 0:  # the 1st, 2nd, 4th, 8th …: an outage isn't a flood
            log.warning(
                "connector can't be linked",
                connector=self._name,
                failures=failures,
                reason=reason,
            )

    # What we serve for the peer at once, divided over its links, which come and go.

    def dial_settings(self, settings: NetSettings) -> NetSettings:
        """Return what the next link is dialled with."""
        share = self._share(len(self.open) + 1)
        return replace(
            settings,
            connect_timeout_seconds=self._table.settings.dial_timeout_seconds,
            wire=replace(settings.wire, credits=share),
        )

    def _share(self, links: int) -> int:
        return max(1, self._table.settings.max_parallel_requests // max(1, links))

    def share_credits(self) -> None:
        """Give each link its part; what one link leaves, the others get."""
        links = self.open
        for link in links:
            link.set_credits(self._share(len(links)))
