"""A link: one mutually authenticated connection to a peer, driving ``wire.Connection``.

Everything that changes the core goes through ``_changed``, which handles the core's events and
schedules one write per turn of the event loop: state and socket can't drift apart, and calls that
are made or answered in the same turn share a TLS record.

Reading never waits for writing. What reading can make us write is bounded by credits, windows and
the flood guard instead; two ends that each stop reading until the other reads would never move
again.
"""

from __future__ import annotations

import asyncio
import enum
import math
import secrets
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import (
    CallTimeout,
    HandshakeError,
    LinkClosed,
    LocalProtocolError,
    RemoteProtocolError,
)
from node_agent.net.calling import Calling
from node_agent.net.serving import Serving
from node_agent.wire import events
from node_agent.wire.codes import Code, code_name
from node_agent.wire.connection import Connection
from node_agent.wire.settings import HelloInfo
from node_agent.wire.states import ConnectionState

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

    from node_agent.identity import PeerIdentity
    from node_agent.net.backend import NetSettings
    from node_agent.net.calls import CallHandler, RawAnswer
    from node_agent.net.tls import IdentityHolder

__all__ = ["Link", "LinkChange", "LinkState"]

log = structlog.get_logger(__name__)

# The first measurement counts fully, each later one for an eighth (RFC 6298, 2).
_ROUND_TRIP_WEIGHT = 1 / 8
# A timer never fires in less than this; it keeps a clock that stands still from spinning the loop.
_SHORTEST_TIMER_SECONDS = 0.001
# What is held against the peer. Silence is mostly the network's fault.
_BREACHES = (Code.UNTRUSTED, Code.WRITE_STALLED, Code.MESSAGE_STALLED)
_DEAD = (Code.KEEP_ALIVE, Code.WRITE_STALLED, Code.HELLO_TIMEOUT)


class LinkState(enum.Enum):
    """What a link is good for: new calls, only those under way, nothing."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class LinkChange(enum.Enum):
    """What an observer is told of."""

    CREDITS = "credits"
    DEMAND = "demand"
    DRAINING = "draining"
    CLOSED = "closed"


class Link:
    """One link. Made by a ``Network``; ``peer`` is who the validated certificate says it is.

    ``breach`` says how the peer broke the rules, once that has ended the link.
    """

    def __init__(
        self,
        *,
        transport: asyncio.Transport,
        peer: PeerIdentity,
        chain_der: Sequence[bytes],
        identity: IdentityHolder,
        handler: CallHandler,
        settings: NetSettings,
        local_dialled: bool,
    ) -> None:
        self.peer = peer
        self.local_dialled = local_dialled
        self.connection_id = secrets.token_hex(8)
        self.round_trip_seconds: float | None = None
        self.close_reason = ""
        self.breach = ""
        self._transport = transport
        self._chain_der = tuple(chain_der)
        self._identity = identity
        self._clock = identity.clock
        self._settings = settings
        self.opened_at = self._clock.monotonic()
        self.last_used_at = self.opened_at
        self._loop = asyncio.get_running_loop()
        self._core = Connection(
            settings.wire,
            initiator=local_dialled,
            local=HelloInfo(node=identity.node.uri, peer=peer.node.uri),
        )
        self._calling = Calling(self._core, self._changed)
        self._serving = Serving(self, self._core, handler, self._changed)
        self._pings: dict[bytes, asyncio.Future[float]] = {}
        self._observers: list[Callable[[Link, LinkChange], None]] = []
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = math.inf
        self._is_closed = False
        self._is_lost = False
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self._unsubscribe = identity.subscribe(self._recheck_soon)

    def __repr__(self) -> str:
        arrow = "->" if self.local_dialled else "<-"
        return (
            f"<Link {arrow} {self.peer.node} {self.state.value} in_flight={self.in_flight} "
            f"serving={self.serving} credits={self.available_credits}>"
        )

    # What it is now.

    @property
    def state(self) -> LinkState:
        """Whether new calls can be made."""
        if self._is_closed or self._core.state is ConnectionState.CLOSED:
            return LinkState.CLOSED
        if self._core.state is ConnectionState.OPEN:
            return LinkState.OPEN
        return LinkState.DRAINING

    @property
    def in_flight(self) -> int:
        """Requests we sent that are unanswered."""
        return self._core.in_flight

    @property
    def available_credits(self) -> int:
        """Further requests that the peer allows us now."""
        return 0 if self._is_closed else self._core.available_credits

    @property
    def serving(self) -> int:
        """Requests of the peer that we are serving."""
        return self._core.serving

    @property
    def peer_queued(self) -> int:
        """How many requests waited at the peer for our credits when it last said."""
        return self._core.peer_queued

    # What it does.

    async def call(
        self,
        method: str,
        payload: bytes,
        *,
        request_id: bytes,
        timeout_seconds: float,
        body: AsyncIterable[bytes] | None = None,
    ) -> RawAnswer:
        """Send a request and return its answer. Cancelling this coroutine cancels the request.

        Raises CallTimeout; LinkClosed when the link ends or refuses first; LocalProtocolError when
        no credit is free or the payload is larger than the peer takes.
        """
        if self.state is not LinkState.OPEN:
            raise LinkClosed(f"the link to {self.peer.node} is {self.state.value}")
        self.last_used_at = self._clock.monotonic()
        return await self._calling.call(
            method, payload, request_id=request_id, timeout_seconds=timeout_seconds, body=body
        )

    async def ping(self, timeout_seconds: float) -> float:
        """Return the round-trip time in seconds. Raises CallTimeout or LinkClosed."""
        try:
            token = self._core.ping(self._clock.monotonic())
        except LocalProtocolError as error:
            raise LinkClosed(str(error)) from error
        waiter: asyncio.Future[float] = self._loop.create_future()
        self._pings[token] = waiter
        self._changed()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await waiter
        except TimeoutError:
            raise CallTimeout(f"no pong within {timeout_seconds:.3f} s") from None
        finally:
            self._pings.pop(token, None)

    def announce_queue(self, queued: int) -> None:
        """Tell the peer how many requests wait here for its credits."""
        if self.state is LinkState.OPEN:
            self._core.announce_queue(queued)
            self._changed()

    def set_credits(self, parallel_requests: int) -> None:
        """Grant the peer so many parallel requests from now on."""
        if self.state is LinkState.OPEN:
            self._core.set_credits(parallel_requests)
            self._changed()

    async def drain(self, timeout_seconds: float) -> None:
        """Open no more streams, let open ones finish, close; after the timeout, cut."""
        if self.state is not LinkState.CLOSED:
            self._core.go_away()
            self._changed()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.wait_closed()
        except TimeoutError:
            self.abort()
            await self.wait_closed()

    def terminate(self, code: int, reason: str) -> None:
        """End now, and tell the peer why; every call on the link is lost."""
        if not self._is_closed:
            self._core.fail(code, reason)
            self._changed()

    def abort(self) -> None:
        """Cut the connection now, without a word."""
        self._close("aborted")
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone and every task of the link has ended."""
        await asyncio.shield(self._lost)
        while tasks := self._serving.tasks:
            await asyncio.wait(tasks)

    def add_observer(self, observer: Callable[[Link, LinkChange], None]) -> None:
        """Tell ``observer`` of changes; of CLOSED at once when it has happened already."""
        self._observers.append(observer)
        if self._is_closed:
            observer(self, LinkChange.CLOSED)

    def on_closed(self, callback: Callable[[Link], None]) -> None:
        """Call ``callback`` once when the link is closed, at once when it is already."""

        def observe(link: Link, change: LinkChange) -> None:
            if change is LinkChange.CLOSED:
                callback(link)

        self.add_observer(observe)

    # What the transport says (``net/handshake.py`` passes it on).

    def start(self) -> None:
        """Begin with Hello; ``greeted`` resolves when the peer's has come."""
        self._core.start(self._clock.monotonic())
        self._changed()
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        self._core.receive_data(data, self._clock.monotonic())
        self._changed()
        due = self._core.message_due
        if due is not None and due < self._armed_for:
            self._arm()

    def eof_received(self) -> None:
        """Take in the end of the peer's bytes."""
        self._core.receive_eof()
        self._changed()

    def connection_lost(self, error: Exception | None) -> None:
        """Take in the end of the transport."""
        self._close(f"connection lost: {error}" if error else "connection closed")
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        """Take in that the transport is full."""
        self._core.writing_blocked(self._clock.monotonic())
        self._calling.pause()
        self._arm()

    def resume_writing(self) -> None:
        """Take in that the transport has room again."""
        self._core.writing_resumed()
        self._calling.resume()

    # The one place after every change of the core.

    def _changed(self) -> None:
        for event in self._core.next_events():
            self._handle(event)
        if self._flush_handle is None and not self._is_closed:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        data = self._core.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                self.last_used_at = self._clock.monotonic()
                self._serving.start(event, self.last_used_at)
            case events.AnswerReceived(stream, status, message):
                self._calling.answered(stream, status, message)
            case events.BodyReceived():
                self._serving.body_received(event)
            case events.BodySent(stream):
                self._calling.body_sent(stream)
            case events.StreamCancelled(stream, code):
                self._calling.cancelled(stream, code)
                self._serving.cancelled(stream)
            case events.CreditsChanged():
                self._notify(LinkChange.CREDITS)
            case events.DemandReceived():
                self._notify(LinkChange.DEMAND)
            case events.PongReceived(token, seconds):
                self._measured(token, seconds)
            case events.DrainStarted():
                self._notify(LinkChange.DRAINING)
            case events.HelloReceived():
                self._greeted()
            case events.ConnectionEnded():
                self._ended(event)

    def _greeted(self) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)
        # Hello and a refusal may come in one read: then it is over before it was ever open.
        if not self._core.is_closed:
            self._core.ping(self._clock.monotonic())
        self._arm()  # from the Hello timeout to keep-alive, which may come sooner

    def _measured(self, token: bytes, seconds: float) -> None:
        smoothed = self.round_trip_seconds
        if smoothed is None:
            self.round_trip_seconds = seconds
        else:
            self.round_trip_seconds = smoothed + _ROUND_TRIP_WEIGHT * (seconds - smoothed)
        waiter = self._pings.get(token)
        if waiter is not None and not waiter.done():
            waiter.set_result(seconds)

    def _ended(self, event: events.ConnectionEnded) -> None:
        reason = event.reason or code_name(event.code)
        if event.code:
            reason = f"{'peer: ' if event.by_peer else ''}{reason}"
        if event.error is not None or (event.code in _BREACHES and not event.by_peer):
            self.breach = f"{code_name(event.code)}: {event.reason}"
        self._flush()
        self._close(reason, error=event.error)
        if event.code in _DEAD and not event.by_peer:
            self._transport.abort()
        else:
            self._transport.close()
            self._loop.call_later(self._settings.close_timeout_seconds, self._transport.abort)

    def _close(self, reason: str, *, error: RemoteProtocolError | None = None) -> None:
        """Release everything that waits on this link; happens once."""
        if self._is_closed:
            return
        self._is_closed = True
        self.close_reason = reason
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        self._core.receive_eof()
        log.info("link closed", peer=str(self.peer.node), id=self.connection_id, reason=reason)
        text = f"the link to {self.peer.node} ended: {reason}"
        self._calling.close(text)
        self._serving.close(text)
        for waiter in self._pings.values():
            if not waiter.done():
                waiter.set_exception(LinkClosed(text))
        if not self.greeted.done():
            failure = HandshakeError(reason)
            failure.__cause__ = error
            self.greeted.set_exception(failure)
            self.greeted.exception()  # seen: whoever still waits gets it all the same
        self._notify(LinkChange.CLOSED)

    def _notify(self, change: LinkChange) -> None:
        for observer in tuple(self._observers):
            observer(self, change)

    # Time and trust.

    def _arm(self) -> None:
        deadline = self._core.next_deadline
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = math.inf if deadline is None else deadline
        if deadline is not None and not self._is_closed:
            delay = max(_SHORTEST_TIMER_SECONDS, deadline - self._clock.monotonic())
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._core.tick(self._clock.monotonic())
        if self._clock.now() > self.peer.not_after:
            self._core.fail(Code.UNTRUSTED, "the certificate has expired")
        self._changed()
        self._arm()

    def _recheck_soon(self) -> None:
        # One turn of the loop per link: a thousand links must not hold up everything else.
        self._loop.call_soon(self._recheck)

    def _recheck(self) -> None:
        if self._is_closed:
            return
        try:
            self._identity.verify_peer(self._chain_der)
        except HandshakeError as error:
            self.terminate(Code.UNTRUSTED, str(error))
