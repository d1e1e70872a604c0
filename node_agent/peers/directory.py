"""All live links of this node, whoever dialled them, and who gets the next free credit.

A request goes to the least-loaded healthy link with a free credit among the peers that may serve
it. When none has one, it waits in line: first come, first served, bounded in number and time. The
peers learn how many wait (Demand), because only the end that dials can add links.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import AcquireTimeout, Unavailable
from node_agent.net.link import Link, LinkChange, LinkState
from node_agent.peers.lines import PeerSet, Waiter, WaitingLines
from node_agent.peers.snapshots import PeerSnapshot, summarize
from node_agent.wire.codes import Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity, PeerIdentity
    from node_agent.net.calls import RawAnswer

__all__ = ["Directory", "Lease"]

log = structlog.get_logger(__name__)

# Announced in steps: a queue that changes with every request must not cost a frame each time.
_ANNOUNCE_SECONDS: Final = 0.02
_MAX_LAST_SEEN: Final = 10_000
_RETRY_AFTER_SECONDS: Final = 2
# Of the places in line: what one peer brings to be passed on leaves room for the others'.
_PEER_SHARE: Final = 1 / 4


@dataclass(slots=True, eq=False)
class _Entry:
    """A link and the credits that are promised to callers who haven't sent yet."""

    link: Link
    promised: int = 0
    announced: int = 0

    @property
    def has_credit(self) -> bool:
        return self.link.available_credits > self.promised and self.link.state is LinkState.OPEN

    def promise(self) -> _Entry:
        """Set one credit aside for a caller."""
        self.promised += 1
        return self

    @property
    def load(self) -> tuple[int, float]:
        """Order by load; among equals the last used one, so that the others grow idle."""
        return (self.link.in_flight + self.promised, -self.link.last_used_at)


class _Avoided:
    """Peers that said they can't serve now, each for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[NodeIdentity, float] = {}

    def add(self, peer: NodeIdentity, seconds: float) -> None:
        self._until[peer] = self._clock.monotonic() + seconds

    def forget(self, peer: NodeIdentity) -> None:
        self._until.pop(peer, None)

    def __contains__(self, peer: NodeIdentity) -> bool:
        until = self._until.get(peer)
        if until is not None and until <= self._clock.monotonic():
            del self._until[peer]
            return False
        return until is not None


class Lease:
    """A credit of a link, for one call. Leave the ``with`` block and it is free again."""

    __slots__ = ("_directory", "_entry", "_is_used", "link")

    def __init__(self, directory: Directory, entry: _Entry) -> None:
        self._directory = directory
        self._entry = entry
        self._is_used = False
        self.link = entry.link

    async def call(
        self,
        method: str,
        payload: bytes,
        *,
        request_id: bytes,
        timeout_seconds: float,
        body: AsyncIterable[bytes] | None = None,
    ) -> RawAnswer:
        """Send the one request. Raises what ``Link.call`` raises."""
        self._spend()
        return await self.link.call(
            method, payload, request_id=request_id, timeout_seconds=timeout_seconds, body=body
        )

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._spend()
        self._directory._serve_waiters()

    def _spend(self) -> None:
        """Turn the promise into the link's own count, or give it back; happens once."""
        if not self._is_used:
            self._is_used = True
            self._entry.promised -= 1


class Directory:
    """Every live link by peer. ``admits`` decides who may be linked at all: nobody, until set.

    ``on_breach`` is told of a peer that was refused, or whose link ended by its own fault.
    """

    def __init__(self, *, clock: Clock, max_queued_requests: int = 1000) -> None:
        self._clock = clock
        self._max_queued = max_queued_requests
        self._peers: dict[NodeIdentity, dict[str, _Entry]] = {}
        self._lines: WaitingLines[_Entry] = WaitingLines(self._announce_soon)
        self._avoided = _Avoided(clock)
        self._announcement: asyncio.TimerHandle | None = None
        self._last_seen: dict[NodeIdentity, float] = {}
        self._observers: list[Callable[[PeerIdentity, bool], None]] = []
        self._waiting_observers: list[Callable[[], None]] = []
        self.admits: Callable[[PeerIdentity], bool] = lambda peer: False
        self.on_breach: Callable[[PeerIdentity, str], None] = lambda peer, reason: None

    def __repr__(self) -> str:
        links = sum(len(entries) for entries in self._peers.values())
        return f"<Directory peers={len(self._peers)} links={links} queued={len(self._lines)}>"

    @property
    def queued(self) -> int:
        """How many requests wait for a credit."""
        return len(self._lines)

    def add(self, link: Link) -> bool:
        """Take in a new link, dialled or accepted; False when its peer may not be linked.

        A refused link is told so and ended. A link leaves by itself when it closes.
        """
        if not self.admits(link.peer):
            log.warning("peer refused: no role grants /peer/incoming", peer=link.peer.node.uri)
            link.terminate(Code.UNTRUSTED, "no role here grants this node /peer/incoming")
            self.on_breach(link.peer, "refused: no role grants /peer/incoming")
            return False
        entries = self._peers.setdefault(link.peer.node, {})
        entries[link.connection_id] = _Entry(link)
        if len(entries) == 1:
            self._avoided.forget(link.peer.node)
            self._notify(link.peer, True)
        link.add_observer(self._observe)
        self._serve_waiters()
        self._announce_soon()
        return True

    def links(self, peer: NodeIdentity | None = None) -> list[Link]:
        """Return the live links, of all peers or of one."""
        groups = self._peers.values() if peer is None else [self._peers.get(peer, {})]
        return [entry.link for entries in groups for entry in entries.values()]

    def connected_peers(self) -> list[PeerIdentity]:
        """Return who is linked with us now, each once."""
        return [next(iter(entries.values())).link.peer for entries in self._peers.values()]

    def is_connected(self, peer: NodeIdentity) -> bool:
        """Tell whether some link of ``peer`` takes new requests."""
        entries = self._peers.get(peer, {})
        return any(entry.link.state is LinkState.OPEN for entry in entries.values())

    def observe(self, observer: Callable[[PeerIdentity, bool], None]) -> None:
        """Call ``observer`` with True at a peer's first link, False when its last one is gone."""
        self._observers.append(observer)

    def observe_waiting(self, observer: Callable[[], None]) -> None:
        """Call ``observer``, soon, when the number of waiting requests changed."""
        self._waiting_observers.append(observer)

    def waiting_for(self, peer: NodeIdentity) -> int:
        """Return how many requests wait that ``peer`` could serve."""
        return self._lines.count_for(peer)

    def readmit(self) -> int:
        """End the links of every peer that may no longer be linked; return how many there were."""
        lost = [link for link in self.links() if not self.admits(link.peer)]
        for link in lost:
            link.terminate(Code.UNTRUSTED, "the role that granted /peer/incoming was taken away")
        return len(lost)

    def avoid(self, peer: NodeIdentity, seconds: float) -> None:
        """Prefer other peers for a while: this one's links are well, but it can't serve."""
        self._avoided.add(peer, seconds)

    async def acquire(
        self,
        peers: Sequence[NodeIdentity],
        *,
        timeout_seconds: float,
        asker: NodeIdentity | None = None,
    ) -> Lease:
        """Return a credit of the best link to one of ``peers``, in ``with``.

        ``asker`` is the peer that brought the request, if one did. Raises AcquireTimeout;
        Unavailable at once when too many wait already, of all or of the asker's.
        """
        wanted = tuple(peers)
        if not self._lines.has_line(wanted):
            entry = self._pick(wanted)
            if entry is not None:
                return Lease(self, entry.promise())
        return await self._wait_in_line(wanted, timeout_seconds, asker)

    async def _wait_in_line(
        self, peers: PeerSet, timeout_seconds: float, asker: NodeIdentity | None
    ) -> Lease:
        is_asker_full = (
            asker is not None and self._lines.count_of(asker) >= self._max_queued * _PEER_SHARE
        )
        if is_asker_full or len(self._lines) >= self._max_queued:
            raise Unavailable(
                f"{len(self._lines)} requests wait already",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        waiter = self._lines.join(peers, asker)
        try:
            async with asyncio.timeout(timeout_seconds):
                return Lease(self, await waiter.credit)
        except BaseException as error:
            self._leave_line(waiter)
            if isinstance(error, TimeoutError):
                names = ", ".join(peer.name for peer in peers)
                raise AcquireTimeout(
                    f"no free link to {names} in {timeout_seconds:.1f} s"
                ) from None
            raise

    def _leave_line(self, waiter: Waiter[_Entry]) -> None:
        """Free what a waiter that gave up holds: its place, or the credit it was just promised."""
        entry = self._lines.leave(waiter)
        if entry is not None:
            entry.promised -= 1
            self._serve_waiters()

    def _pick(self, peers: PeerSet) -> _Entry | None:
        best: _Entry | None = None
        best_order: tuple[bool, tuple[int, float]] | None = None
        for peer in peers:
            entries = self._peers.get(peer)
            if not entries:
                continue
            is_last_choice = peer in self._avoided
            for entry in entries.values():
                if entry.has_credit:
                    order = (is_last_choice, entry.load)
                    if best_order is None or order < best_order:
                        best, best_order = entry, order
        return best

    def _serve_waiters(self) -> None:
        if self._lines:
            self._lines.serve(self._find_credit)

    def _find_credit(self, peers: PeerSet) -> Callable[[], _Entry] | None:
        entry = self._pick(peers)
        return None if entry is None else entry.promise

    def _observe(self, link: Link, change: LinkChange) -> None:
        match change:
            case LinkChange.CREDITS:
                self._serve_waiters()
            case LinkChange.CLOSED:
                self._remove(link)
            case LinkChange.DEMAND | LinkChange.DRAINING:
                pass  # the pool that dialled the link acts on these

    def _remove(self, link: Link) -> None:
        entries = self._peers.get(link.peer.node, {})
        if entries.pop(link.connection_id, None) is None:
            return
        if link.breach:
            self.on_breach(link.peer, link.breach)
        if not link.local_dialled:
            if len(self._last_seen) >= _MAX_LAST_SEEN:
                self._last_seen.clear()
            self._last_seen[link.peer.node] = self._clock.now()
        if not entries:
            del self._peers[link.peer.node]
            self._notify(link.peer, False)

    def _notify(self, peer: PeerIdentity, is_connected: bool) -> None:
        for observer in tuple(self._observers):
            observer(peer, is_connected)

    def _announce_soon(self) -> None:
        if self._announcement is None:
            loop = asyncio.get_running_loop()
            self._announcement = loop.call_later(_ANNOUNCE_SECONDS, self._announce)

    def _announce(self) -> None:
        self._announcement = None
        for peer, entries in self._peers.items():
            queued = self.waiting_for(peer)
            for entry in entries.values():
                if queued != entry.announced:
                    entry.announced = queued
                    entry.link.announce_queue(queued)
        for notify in self._waiting_observers:
            notify()

    def snapshot(self) -> tuple[PeerSnapshot, ...]:
        """Return the peers that dialled us, and those whose last accepted link has ended."""
        now = self._clock.now()
        found = {
            peer: summarize(peer, (), last_seen=last_seen)
            for peer, last_seen in self._last_seen.items()
        }
        for peer in self._peers:
            accepted = [link for link in self.links(peer) if not link.local_dialled]
            if accepted:
                found[peer] = summarize(peer, accepted, last_seen=now)
        return tuple(found[peer] for peer in sorted(found))
