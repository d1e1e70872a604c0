"""A connector's pool at work: it tells ``plan`` what happened and does what ``plan`` says.

Every event (a dial ended, a link closed or drains, demand, new settings, an alarm) ends in
``wake``; one task plans and performs. Performing never waits: dials and drains are tasks of the
pool's own group, so whatever they do or however they end, the next plan sees it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from node_agent.net.backend import NetSettings
from node_agent.pool.dialing import Dialing
from node_agent.pool.links import PoolLinks
from node_agent.pool.plan import Close, Dial, Drain, Reason, WakeAt, plan
from node_agent.pool.runner import Runner
from node_agent.pool.slot import Slot, SlotTable
from node_agent.pool.snapshot import ConnectorSnapshot, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.clock import Clock
    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import Network
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder
    from node_agent.pool.settings import PoolSettings

__all__ = ["ConnectorPool"]


class ConnectorPool:
    """The dialled links of one connector. ``start`` it, ``close`` it.

    ``on_link`` is given every new link; when it returns False, the link isn't wanted and counts as
    a failed dial. ``waiting`` returns how many of our own requests wait for this peer; call
    ``wake`` when that changed.
    """

    def __init__(
        self,
        *,
        name: str,
        address: Address,
        peer: NodeIdentity,
        settings: PoolSettings,
        network: Network,
        identity: IdentityHolder,
        handler: CallHandler,
        on_link: Callable[[Link], bool],
        clock: Clock,
        waiting: Callable[[], int] = lambda: 0,
        net_settings: NetSettings | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.table: SlotTable[Link] = SlotTable(settings, draw)
        self.waiting = waiting
        self._clock = clock
        self._net_settings = net_settings or NetSettings()
        self._is_closing = False
        self._runner = Runner(
            f"pool {name}", clock, replan=self._replan, is_finished=self._is_finished
        )
        self._links = PoolLinks(name, self.table, self._runner, clock, on_link)
        self.dialing = Dialing(network, identity, handler, self._links, address, peer)

    def __repr__(self) -> str:
        return f"<ConnectorPool {self.snapshot()}>"

    @property
    def settings(self) -> PoolSettings:
        """The settings in force."""
        return self.table.settings

    @property
    def links(self) -> list[Link]:
        """The open links, oldest first."""
        return self._links.open

    @property
    def last_error(self) -> str | None:
        """Why the last dial failed or the last link was lost; None once a link is up again."""
        return self._links.last_error

    @property
    def last_seen(self) -> float | None:
        """When the last link ended, in seconds since the epoch."""
        return self._links.last_seen

    @property
    def queued(self) -> int:
        """How many requests wait for credits, at the end where more of them do."""
        return max(self.waiting(), *(link.peer_queued for link in self.links), 0)

    # What the owner says.

    def start(self) -> None:
        """Begin to dial. Call it once, in the event loop."""
        self._runner.start()

    async def close(self) -> None:
        """Drain everything and wait until it has ended, at most the drain time.

        Cancelling this cuts what is left.
        """
        self._is_closing = True
        self.wake()
        try:
            await self._runner.wait_finished()
        except asyncio.CancelledError:
            self.terminate()
            raise

    def terminate(self) -> None:
        """Cut every link and dial now."""
        self._is_closing = True
        self.dialing.give_up_all()
        self._links.abort_all()
        self.wake()

    def update(
        self,
        settings: PoolSettings,
        *,
        address: Address | None = None,
        peer: NodeIdentity | None = None,
        identity: IdentityHolder | None = None,
    ) -> None:
        """Put other settings in force; with another address, peer or identity of ours, every link
        is replaced. What is as it was changes nothing.
        """
        before = self.settings, self.dialing.target
        self.dialing.address = address or self.dialing.address
        self.dialing.peer = peer or self.dialing.peer
        self.dialing.identity = identity or self.dialing.identity
        self.table.settings = settings
        if before == (settings, self.dialing.target):
            return
        self.table.forgive()
        if before[1] != self.dialing.target:
            self.table.expire_all()
        self._links.share_credits()
        self.wake()

    def expire_all(self) -> None:
        """Replace every link, new ones first: a renewed certificate takes hold. Failures with the
        old one are forgotten.
        """
        self.table.forgive()
        self.table.expire_all()
        self.wake()

    def wake(self) -> None:
        """Plan again: something changed."""
        self._runner.wake()

    def snapshot(self) -> ConnectorSnapshot:
        """Return the pool's figures now."""
        return take_snapshot(self, self._clock.now())

    # Plan and perform.

    def _is_finished(self) -> bool:
        return self._is_closing and not len(self.table)

    def _replan(self) -> float | None:
        """Plan and perform; return when to do so again at the latest."""
        now = self._clock.monotonic()
        self._links.note_use()
        self.table.settled(now)
        settings = replace(self.settings, enabled=False) if self._is_closing else self.settings
        wake_at: float | None = None
        for action in plan(self.table.state(self.queued), settings, now):
            match action:
                case Dial(replaces):
                    slot = self.table.begin_dial(now, replaces=replaces)
                    settings_now = self._links.dial_settings(self._net_settings)
                    self.dialing.begin(slot, settings_now, self._runner.group)
                case Drain(slot_id, reason):
                    self._links.drain(self.table[slot_id], reason)
                case Close(slot_id, reason):
                    self._give_up(self.table[slot_id], reason)
                case WakeAt(at):
                    wake_at = at
        if len(self.links) > self.settings.min_connections:
            # A link in use has no alarm, and nobody says when its use ends.
            look_again = now + self.settings.idle_seconds
            wake_at = look_again if wake_at is None else min(wake_at, look_again)
        return wake_at

    def _give_up(self, slot: Slot[Link], reason: Reason) -> None:
        if reason is Reason.SLOW:
            self._links.dial_failed(slot, f"no connection to {self.dialing.address} in time")
        else:
            self.table.remove(slot)
        self.dialing.give_up(slot)
