"""A connector's pool at work: it tells ``plan`` what happened and does what ``plan`` says.

Every event (a dial ended, a link closed or drains, demand, new settings, a timer) ends in ``wake``;
one task plans and performs. Performing never waits: dials and drains are tasks of the pool's own
group, so whatever they do or however they end, the next plan sees it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError
from node_agent.net.backend import NetSettings
from node_agent.net.link import Link, LinkChange, LinkState
from node_agent.pool.plan import Close, Dial, Drain, Reason, SlotPhase, WakeAt, plan
from node_agent.pool.slot import Slot, SlotTable
from node_agent.pool.snapshot import ConnectorSnapshot, ConnectorState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from node_agent.clock import Clock
    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import Network
    from node_agent.net.calls import CallHandler
    from node_agent.net.tls import IdentityHolder
    from node_agent.pool.settings import PoolSettings

__all__ = ["ConnectorPool"]

log = structlog.get_logger(__name__)

# After a defect in planning itself: go on, but don't spin.
_MISHAP_SECONDS: Final = 1.0


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
        self.address = address
        self.peer = peer
        self.last_error: str | None = None
        self._network = network
        self._identity = identity
        self._handler = handler
        self._on_link = on_link
        self._waiting = waiting
        self._clock = clock
        self._net_settings = net_settings or NetSettings()
        self._table: SlotTable[Link] = SlotTable(settings, draw)
        self._slot_of_link: dict[str, Slot[Link]] = {}
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._is_closing = False
        self._last_seen: float | None = None
        self._runner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        now = self.snapshot()
        return (
            f"<ConnectorPool {now.name} -> {now.peer} {now.state} connections={now.connections} "
            f"(active={now.active} idle={now.idle}) dialing={now.dialing} draining={now.draining} "
            f"in_flight={now.in_flight} serving={now.serving} queued={now.queued}>"
        )

    @property
    def settings(self) -> PoolSettings:
        """The settings in force."""
        return self._table.settings

    @property
    def links(self) -> list[Link]:
        """The open links, oldest first."""
        return [slot.link for slot in self._open() if slot.link is not None]

    # What the owner says.

    def start(self) -> None:
        """Begin to dial. Call it once, in the event loop."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name=f"pool {self.name}")

    async def close(self) -> None:
        """Drain everything and wait until it has ended, at most the drain time.

        Cancelling this cuts what is left.
        """
        self._is_closing = True
        self.wake()
        if self._runner is None:
            return
        try:
            await asyncio.shield(self._runner)
        except asyncio.CancelledError:
            self.terminate()
            raise

    def terminate(self) -> None:
        """Cut every link and dial now."""
        self._is_closing = True
        for task in self._dials.values():
            task.cancel()
        for slot in self._table:
            if slot.link is not None:
                slot.link.abort()
        self.wake()

    def update(
        self,
        settings: PoolSettings,
        *,
        address: Address | None = None,
        peer: NodeIdentity | None = None,
    ) -> None:
        """Put other settings in force; with another address or peer, every link is replaced."""
        moved = (address or self.address, peer or self.peer) != (self.address, self.peer)
        self._table.settings = settings
        self.address, self.peer = address or self.address, peer or self.peer
        self._table.forgive()
        if moved:
            self._table.expire_all()
        self._share_credits()
        self.wake()

    def expire_all(self) -> None:
        """Replace every link, new ones first: a renewed certificate takes hold."""
        self._table.expire_all()
        self.wake()

    def retry_now(self) -> None:
        """Forget past failures: the way may be free again."""
        self._table.forgive()
        self.wake()

    def wake(self) -> None:
        """Plan again: something changed."""
        self._changed.set()

    def snapshot(self) -> ConnectorSnapshot:
        """Return the pool's figures now."""
        links = self.links
        active = sum(1 for link in links if link.in_flight or link.serving)
        trips = [link.round_trip_seconds for link in links if link.round_trip_seconds is not None]
        return ConnectorSnapshot(
            name=self.name,
            peer=self.peer.uri,
            address=str(self.address),
            state=self._state(),
            connections=len(links),
            active=active,
            idle=len(links) - active,
            dialing=len(self._table.in_phase(SlotPhase.DIALING)),
            draining=len(self._table.in_phase(SlotPhase.DRAINING)),
            min=self.settings.min_connections,
            max=self.settings.max_connections,
            in_flight=sum(link.in_flight for link in links),
            serving=sum(link.serving for link in links),
            queued=self._queued(),
            round_trip_ms=min(trips) * 1000 if trips else None,
            failures=self._table.failures,
            last_error=self.last_error,
            last_seen=self._clock.now() if links else self._last_seen,
        )

    def _state(self) -> ConnectorState:
        if not self.settings.enabled:
            return "disabled"
        if self._open():
            return "up"
        return "down" if self._table.failures else "connecting"

    # The one task that plans.

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            while not (self._is_closing and not len(self._table)):
                self._changed.clear()
                try:
                    wake_at = self._replan()
                except Exception:
                    log.exception("pool can't plan", connector=self.name)
                    wake_at = self._clock.monotonic() + _MISHAP_SECONDS
                await self._wait_until(wake_at)

    async def _wait_until(self, at: float | None) -> None:
        if at is None:
            await self._changed.wait()
            return
        loop = asyncio.get_running_loop()
        alarm = loop.create_task(self._clock.sleep(max(0.0, at - self._clock.monotonic())))
        alarm.add_done_callback(self._ring)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()

    def _ring(self, alarm: asyncio.Task[None]) -> None:
        # An alarm that was cancelled because something changed must not say so once more: the
        # next round would cancel its own alarm for it, and so on without an end.
        if not alarm.cancelled():
            self._changed.set()

    def _replan(self) -> float | None:
        """Plan and perform; return when to do so again at the latest."""
        now = self._clock.monotonic()
        self._note_use()
        self._table.settled(now)
        settings = replace(self.settings, enabled=False) if self._is_closing else self.settings
        wake_at: float | None = None
        for action in plan(self._table.state(self._queued()), settings, now):
            match action:
                case Dial(replaces):
                    self._begin_dial(replaces, now)
                case Drain(slot_id, reason):
                    self._begin_drain(self._table[slot_id], reason)
                case Close(slot_id, reason):
                    self._give_up(self._table[slot_id], reason, now)
                case WakeAt(at):
                    wake_at = at
        if len(self._open()) > self.settings.min_connections:
            # A link in use has no alarm, and nobody says when its use ends.
            look_again = now + self.settings.idle_seconds
            wake_at = look_again if wake_at is None else min(wake_at, look_again)
        return wake_at

    def _note_use(self) -> None:
        for slot in self._open():
            link = slot.link
            if link is not None:
                in_use = bool(link.in_flight or link.serving)
                self._table.mark_use(slot, last_used_at=None if in_use else link.last_used_at)

    def _queued(self) -> int:
        demands = (link.peer_queued for link in self.links)
        return max(self._waiting(), *demands, 0)

    def _open(self) -> list[Slot[Link]]:
        return self._table.in_phase(SlotPhase.OPEN)

    # Dials.

    def _begin_dial(self, replaces: int | None, now: float) -> None:
        slot = self._table.begin_dial(now, replaces=replaces)
        self._dials[slot.slot_id] = self._spawn(self._dial(slot))

    def _give_up(self, slot: Slot[Link], reason: Reason, now: float) -> None:
        if reason is Reason.SLOW:
            self._failed(slot, f"no connection to {self.address} in time", now)
        else:
            self._table.remove(slot)
        self._dials[slot.slot_id].cancel()

    async def _dial(self, slot: Slot[Link]) -> None:
        try:
            link = await self._network.dial(
                self.address,
                identity=self._identity,
                expected=self.peer,
                handler=self._handler,
                settings=self._dial_settings(),
            )
        except NodeAgentError as error:
            self._failed(slot, str(error), self._clock.monotonic())
        except Exception as error:
            # A task's root: a defect in a dial must not end the pool with all its links.
            log.exception("dial failed unexpectedly", connector=self.name)
            self._failed(slot, type(error).__name__, self._clock.monotonic())
        else:
            self._opened(slot, link)
        finally:
            # However it ended, cancelled too: no slot stays with a dial that is over.
            del self._dials[slot.slot_id]
            if slot.phase is SlotPhase.DIALING:
                self._table.remove(slot)
            self.wake()

    def _dial_settings(self) -> NetSettings:
        share = self._share(len(self._open()) + 1)
        return replace(
            self._net_settings,
            connect_timeout_seconds=self.settings.dial_timeout_seconds,
            wire=replace(self._net_settings.wire, credits=share),
        )

    def _failed(self, slot: Slot[Link], reason: str, now: float) -> None:
        if self._table.get(slot.slot_id) is None:
            return
        self._table.dial_failed(slot, now)
        self._note_failure(reason)

    def _note_failure(self, reason: str) -> None:
        self.last_error = reason
        failures = self._table.failures
        if failures & (failures - 1) == 0:  # the 1st, 2nd, 4th, 8th …: an outage isn't a flood
            log.warning(
                "connector can't be linked",
                connector=self.name,
                peer=self.peer.uri,
                address=str(self.address),
                failures=failures,
                reason=reason,
            )

    def _opened(self, slot: Slot[Link], link: Link) -> None:
        if self._table.get(slot.slot_id) is None:  # given up in the very moment it succeeded
            link.abort()
            return
        self._table.dial_succeeded(slot, link, self._clock.monotonic())
        self._slot_of_link[link.connection_id] = slot
        log.info("link up", connector=self.name, peer=self.peer.uri, id=link.connection_id)
        link.add_observer(self._observe)
        if link.state is not LinkState.CLOSED and self._on_link(link):
            self.last_error = None
            self._share_credits()

    # Links.

    def _observe(self, link: Link, change: LinkChange) -> None:
        slot = self._slot_of_link.get(link.connection_id)
        if slot is None:
            return
        match change:
            case LinkChange.CLOSED:
                self._closed(slot, link)
            case LinkChange.DRAINING:
                self._peer_drains(slot, link)
            case LinkChange.DEMAND:
                pass
            case LinkChange.CREDITS:
                return
        self.wake()

    def _closed(self, slot: Slot[Link], link: Link) -> None:
        del self._slot_of_link[link.connection_id]
        before = self._table.failures
        self._last_seen = self._clock.now()
        was_open = slot.phase is SlotPhase.OPEN
        self._table.link_lost(slot, self._clock.monotonic())
        if was_open:
            self.last_error = link.close_reason
        if self._table.failures > before:
            self._note_failure(link.close_reason)
        self._share_credits()

    def _peer_drains(self, slot: Slot[Link], link: Link) -> None:
        if slot.phase is SlotPhase.OPEN:
            self._table.peer_drains(slot, self._clock.monotonic())
            self._spawn_drain(link)

    def _begin_drain(self, slot: Slot[Link], reason: Reason) -> None:
        link = slot.link
        assert link is not None
        log.info("link drains", connector=self.name, id=link.connection_id, reason=reason.value)
        self._table.begin_drain(slot, self._clock.monotonic())
        self._spawn_drain(link)
        self._share_credits()

    def _spawn_drain(self, link: Link) -> None:
        self._spawn(link.drain(self.settings.drain_seconds))

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work)

    def _share(self, links: int) -> int:
        return max(1, self.settings.max_parallel_requests // max(1, links))

    def _share_credits(self) -> None:
        """Divide what we serve for the peer at once over its links, which come and go."""
        links = self.links
        for link in links:
            link.set_credits(self._share(len(links)))
