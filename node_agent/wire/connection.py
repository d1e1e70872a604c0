"""The protocol core of one connection. No socket, no clock, no task: bytes and times go in, bytes
and events come out.

How to drive it (the shell in ``net/link.py`` does just this):

1. ``start(now)`` once TLS is up and the peer's certificate has been accepted.
2. After *every* call that isn't a property, write what ``data_to_send`` returns and handle what
   ``next_events`` returns.
3. Call ``tick(now)`` when ``next_deadline`` has come.
4. After ConnectionEnded, write what is left and close the transport.

What the peer does wrong never raises here: it ends the connection with the right code, and
ConnectionEnded carries the error. What the caller does wrong raises LocalProtocolError and changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from node_agent.errors import LocalProtocolError, RemoteProtocolError
from node_agent.wire import events, frames
from node_agent.wire.buffer import FrameBuffer
from node_agent.wire.codes import Code, code_name
from node_agent.wire.control import CANCEL_COST, Control
from node_agent.wire.exchange import Exchange
from node_agent.wire.outgoing import Outgoing
from node_agent.wire.states import (
    CONNECTION_TABLE,
    ConnectionInput,
    ConnectionState,
    next_connection_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.wire.settings import HelloInfo, WireSettings

__all__ = ["HIGHEST_VERSION", "LOWEST_VERSION", "Connection"]

LOWEST_VERSION: Final = 1
HIGHEST_VERSION: Final = 1


class Connection:
    """One connection, from Hello to its end. ``initiator`` is the end that dialled."""

    def __init__(self, settings: WireSettings, *, initiator: bool, local: HelloInfo) -> None:
        self._settings = settings
        self._initiator = initiator
        self._local = local
        self._outgoing = Outgoing()
        self._happened: list[events.Event] = []
        self._buffer = FrameBuffer(settings.max_frame_bytes)
        self._control = Control(settings, self._outgoing, self._happened)
        self._exchange = Exchange(
            settings,
            self._outgoing,
            self._happened,
            granted=self._control.granted,
            initiator=initiator,
        )
        self._is_started = False
        self._dispatch = self._make_dispatch()
        self.state = ConnectionState.IDLE
        self.version = 0

    # What the shell asks.

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self.state is ConnectionState.CLOSED

    @property
    def in_flight(self) -> int:
        """Requests of ours that are unanswered."""
        return self._exchange.in_flight

    @property
    def serving(self) -> int:
        """Requests of the peer's that are unanswered."""
        return self._exchange.serving

    @property
    def available_credits(self) -> int:
        """Further requests that the peer allows us now."""
        if self.state is not ConnectionState.OPEN:
            return 0
        return max(0, self._exchange.peer_credits - self._exchange.in_flight)

    @property
    def peer_queued(self) -> int:
        """How many requests waited at the peer for our credits when it last said."""
        return self._control.peer_queued

    @property
    def granted_credits(self) -> int:
        """Parallel requests that we grant the peer."""
        return self._control.granted.current

    @property
    def next_deadline(self) -> float | None:
        """When ``tick`` has to be called, None when never."""
        if not self._is_started or self.is_closed:
            return None
        alive, message = self._control.liveness.next_deadline, self._exchange.message_due
        return alive if message is None else min(alive, message)

    @property
    def message_due(self) -> float | None:
        """When the first incomplete message of a request has to be complete; None: there is none.

        It may be sooner than the ``next_deadline`` of before.
        """
        return self._exchange.message_due

    def has_stream(self, stream: int) -> bool:
        """Whether ``stream`` is open; none is once the connection is over."""
        return not self.is_closed and stream in self._exchange.streams

    def data_to_send(self) -> bytes:
        """Return the bytes to write now; each is returned once."""
        return self._outgoing.take()

    def next_events(self) -> list[events.Event]:
        """Return what has happened since the last call."""
        if not self._happened:
            return []
        happened = self._happened[:]
        self._happened.clear()  # the exchange appends to this very list
        return happened

    # What the shell says.

    def start(self, now: float) -> None:
        """Begin: the dialling end says Hello, the other waits for it."""
        if self._is_started:
            raise LocalProtocolError("the connection has been started already")
        self._is_started = True
        self._control.liveness.start(now)
        if self._initiator:
            self._send_hello()

    def receive_data(self, data: bytes, now: float) -> None:
        """Take in received bytes. You must flush and handle events afterward."""
        if self.is_closed:
            return
        if not self._is_started:
            raise LocalProtocolError("the connection has not been started")
        self._control.liveness.heard(now)
        try:
            for frame in self._buffer.feed(data):
                what, handle = self._dispatch[type(frame)]
                if (self.state, what) not in CONNECTION_TABLE:
                    raise RemoteProtocolError(
                        f"{type(frame).__name__} isn't allowed in {self.state.name}",
                        code=Code.PROTOCOL,
                    )
                handle(frame, now)
                if self.state is ConnectionState.CLOSED:
                    return
        except RemoteProtocolError as error:
            self._end(error.code, str(error), error=error)
        self._end_if_drained()

    def receive_eof(self) -> None:
        """Note that the peer sends nothing more."""
        if not self.is_closed:
            self._step(ConnectionInput.END)
            reason = "closed by the peer"
            self._happened.append(events.ConnectionEnded(Code.NONE, reason, by_peer=True))

    def open_stream(
        self,
        method: str,
        message: bytes,
        *,
        request_id: bytes,
        deadline_seconds: float,
        has_body: bool = False,
    ) -> int:
        """Send a request; return its stream. ``request_id`` is 16 bytes.

        Raises LocalProtocolError when the connection isn't open, no credit is free, or the message
        is larger than the peer takes.
        """
        self._require(ConnectionInput.SEND_OPEN)
        self._control.liveness.wrote()
        return self._exchange.open(
            method,
            message,
            request_id=request_id,
            deadline_seconds=deadline_seconds,
            has_body=has_body,
        )

    def send_body(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Send more of a request's body; False: wait for BodySent. Raises LocalProtocolError."""
        self._require(ConnectionInput.SEND_STREAM_FRAME)
        self._control.liveness.wrote()
        return self._exchange.send_body(stream, data, end=end)

    def send_answer(self, stream: int, status: int, message: bytes) -> None:
        """Answer a request. Raises LocalProtocolError when its stream is closed."""
        self._require(ConnectionInput.SEND_STREAM_FRAME)
        self._exchange.send_answer(stream, status, message)
        self._control.liveness.wrote()
        self._end_if_drained()

    def consumed(self, stream: int, size: int) -> None:
        """Note that ``size`` bytes of a request's body have been used up."""
        if not self.is_closed:
            self._exchange.consumed(stream, size)

    def cancel(self, stream: int, code: int = Code.CANCELLED) -> None:
        """End a stream now, whoever opened it. Raises LocalProtocolError when there is none."""
        self._require(ConnectionInput.SEND_STREAM_FRAME)
        self._exchange.cancel(stream, code)
        self._end_if_drained()

    def set_credits(self, parallel_requests: int) -> None:
        """Grant the peer so many parallel requests from now on."""
        self._require(ConnectionInput.SEND_CONTROL)
        self._control.set_credits(parallel_requests)

    def announce_queue(self, queued: int) -> None:
        """Tell the peer how many requests wait here for a credit of its."""
        self._require(ConnectionInput.SEND_CONTROL)
        self._control.announce_queue(queued)

    def ping(self, now: float) -> bytes:
        """Send a ping; return the token that PongReceived will carry."""
        self._require(ConnectionInput.SEND_CONTROL)
        return self._control.ping(now)

    def go_away(self, reason: str = "") -> None:
        """Drain: open no more streams, let open ones finish, then end. May be repeated."""
        if self.state in (ConnectionState.GOING_AWAY, ConnectionState.DRAINING):
            return
        self._step(ConnectionInput.SEND_GOAWAY)
        self._send_go_away(Code.NONE, reason)
        if self.is_closed:
            self._happened.append(events.ConnectionEnded(Code.NONE, reason, by_peer=False))
        self._end_if_drained()

    def fail(self, code: int, reason: str) -> None:
        """End now with ``code``; every open stream is lost."""
        if not self.is_closed:
            self._end(code, reason)

    def writing_blocked(self, now: float) -> None:
        """Note that the transport takes no more bytes for now."""
        self._control.liveness.blocked(now)

    def writing_resumed(self) -> None:
        """Note that the transport takes bytes again."""
        self._control.liveness.unblocked()

    def tick(self, now: float) -> None:
        """Do what time asks for: ping a silent peer, give up on a dead one or one that stalls."""
        if not self._is_started or self.is_closed:
            return
        verdict = self._control.tick(now)
        if verdict is None and self._exchange.has_stalled(now):
            verdict = Code.MESSAGE_STALLED
        if verdict is not None:
            self._end(verdict, verdict.name.lower().replace("_", " "))

    # What the peer says.

    def _make_dispatch(
        self,
    ) -> dict[type[Any], tuple[ConnectionInput, Callable[[Any, float], None]]]:
        stream_frame, control = (
            ConnectionInput.RECEIVE_STREAM_FRAME,
            ConnectionInput.RECEIVE_CONTROL,
        )
        return {
            frames.Hello: (ConnectionInput.RECEIVE_HELLO, self._on_hello),
            frames.Open: (ConnectionInput.RECEIVE_OPEN, self._on_open),
            frames.Data: (stream_frame, self._on_data),
            frames.Answer: (stream_frame, self._on_answer),
            frames.Window: (stream_frame, self._on_window),
            frames.Cancel: (stream_frame, self._on_cancel),
            frames.Credits: (control, self._on_credits),
            frames.Demand: (control, self._control.on_demand),
            frames.Ping: (control, self._control.on_ping),
            frames.Pong: (control, self._control.on_pong),
            frames.GoAway: (ConnectionInput.END, self._on_go_away),
        }

    def _on_hello(self, frame: frames.Hello, now: float) -> None:
        self._step(ConnectionInput.RECEIVE_HELLO)
        self.version = min(HIGHEST_VERSION, frame.highest_version)
        if self.version < max(LOWEST_VERSION, frame.lowest_version):
            raise RemoteProtocolError("no protocol version in common", code=Code.VERSION)
        if frame.node != self._local.peer:
            raise RemoteProtocolError(
                f"Hello names {frame.node!r}, the certificate {self._local.peer!r}",
                code=Code.IDENTITY,
            )
        largest_chunk = frame.max_frame_bytes - frames.FRAME_OVERHEAD_BYTES
        if (
            frame.max_frame_bytes < frames.MINIMUM_FRAME_BYTES
            or frame.stream_window_bytes < largest_chunk
        ):
            raise RemoteProtocolError("limits below the minimum", code=Code.PROTOCOL)
        self._exchange.begin(frame)
        if not self._initiator:
            self._send_hello()
        self._control.liveness.greeted(now)
        self._happened.append(events.HelloReceived(frame.node, self.version))

    def _on_open(self, frame: frames.Open, now: float) -> None:
        if self.state is ConnectionState.GOING_AWAY:
            self._control.charge(1, now)
            self._exchange.refuse_open(frame)
        else:
            self._exchange.on_open(frame, now)

    def _on_data(self, frame: frames.Data, now: float) -> None:
        if not frame.payload:
            self._control.charge(1, now)
        self._exchange.on_data(frame)

    def _on_answer(self, frame: frames.Answer, now: float) -> None:
        self._control.liveness.was_read(now)
        self._exchange.on_answer(frame)

    def _on_window(self, frame: frames.Window, now: float) -> None:
        self._control.liveness.was_read(now)
        self._exchange.on_window(frame)

    def _on_cancel(self, frame: frames.Cancel, now: float) -> None:
        self._control.charge(CANCEL_COST, now)
        self._exchange.on_cancel(frame)

    def _on_credits(self, frame: frames.Credits, now: float) -> None:
        self._control.charge(1, now)
        self._exchange.peer_credits = frame.parallel_requests
        self._happened.append(events.CreditsChanged())

    def _on_go_away(self, frame: frames.GoAway, _: float) -> None:
        if frame.code != Code.NONE:
            self._step(ConnectionInput.END)
            reason = frame.reason or code_name(frame.code)
            self._happened.append(events.ConnectionEnded(frame.code, reason, by_peer=True))
            return
        if next_connection_state(self.state, ConnectionInput.RECEIVE_GOAWAY) is None:
            raise RemoteProtocolError("GOAWAY said twice", code=Code.PROTOCOL)
        self._step(ConnectionInput.RECEIVE_GOAWAY)
        if self.is_closed:
            self._happened.append(events.ConnectionEnded(Code.NONE, frame.reason, by_peer=True))
            return
        self._exchange.on_last_stream(frame.last_stream)
        self._happened.append(events.DrainStarted(frame.reason))
        if self.state is ConnectionState.PEER_GOING_AWAY:
            self._step(ConnectionInput.SEND_GOAWAY)
            self._send_go_away(Code.NONE, "")

    # Bookkeeping.

    def _require(self, what: ConnectionInput) -> None:
        if (self.state, what) not in CONNECTION_TABLE:
            raise LocalProtocolError(f"{what.name} isn't possible in {self.state.name}")

    def _step(self, what: ConnectionInput) -> None:
        after = next_connection_state(self.state, what)
        if after is None:
            raise LocalProtocolError(f"{what.name} isn't possible in {self.state.name}")
        self.state = after

    def _send_hello(self) -> None:
        self._step(ConnectionInput.SEND_HELLO)
        settings = self._settings
        self._outgoing.send(
            frames.Hello(
                LOWEST_VERSION,
                HIGHEST_VERSION,
                self._local.node,
                settings.max_frame_bytes,
                settings.max_message_bytes,
                settings.stream_window_bytes,
                settings.credits,
            )
        )

    def _send_go_away(self, code: int, reason: str) -> None:
        self._outgoing.send(frames.GoAway(code, self._exchange.last_peer_stream, reason[:256]))

    def _end_if_drained(self) -> None:
        if self.state is ConnectionState.DRAINING and not self._exchange.streams:
            self._step(ConnectionInput.END)
            self._happened.append(events.ConnectionEnded(Code.NONE, "drained", by_peer=False))

    def _end(self, code: int, reason: str, *, error: RemoteProtocolError | None = None) -> None:
        self._send_go_away(code, reason)
        self._step(ConnectionInput.END)
        self._happened.append(events.ConnectionEnded(code, reason, by_peer=False, error=error))
