"""THE transition tables: of a connection, and of a stream.

Two rules. All transitions are in this file: no other code assigns a state that isn't the result
of ``next_connection_state`` or ``next_stream_state``. And this file doesn't know which role we
play: a stream goes through the same states at both of its ends, because the inputs say what
travels (a request, an answer), not who sends it.

A (state, input) pair that isn't in a table *is* the protocol error. Whose error it is, the caller
knows: for something that we were about to send it is a LocalProtocolError, for something that
arrived a RemoteProtocolError. Either way the state stays as it was.

Connections. Each end sends HELLO once; the dialling end speaks first, and the other answers after
it has looked at the certificate. GOAWAY in peace is answered by GOAWAY, which tells each end up to
which stream the other still looks at requests; when the last stream has ended, so has the
connection::

    IDLE -> HELLO_SENT -> OPEN -> GOING_AWAY ------> DRAINING -> CLOSED
         -> HELLO_RECEIVED -'  `-> PEER_GOING_AWAY -'

A GOAWAY that carries an error isn't GOAWAY in this table but END: nothing may follow it.

In GOING_AWAY requests may still arrive that the peer sent before it read our GOAWAY: they are
refused one by one. After the peer's GOAWAY none may.

Streams. A request flows one way, its answer the other. An answer may start, and even end, before
the request has (a refusal needn't wait for a large body). The end of the answer ends the stream;
so does CANCEL from either end. A closed stream is forgotten: what still arrives for it was on its
way, and is ignored.
"""

from __future__ import annotations

import enum

__all__ = [
    "CONNECTION_TABLE",
    "STREAM_TABLE",
    "ConnectionInput",
    "ConnectionState",
    "StreamInput",
    "StreamState",
    "next_connection_state",
    "next_stream_state",
]


class ConnectionState(enum.IntEnum):
    """Where a connection stands."""

    IDLE = 0
    HELLO_SENT = 1
    HELLO_RECEIVED = 2
    OPEN = 3
    GOING_AWAY = 4
    PEER_GOING_AWAY = 5
    DRAINING = 6
    CLOSED = 7


class ConnectionInput(enum.IntEnum):
    """What can happen to a connection. STREAM_FRAME is DATA, ANSWER, WINDOW and CANCEL; CONTROL is
    PING, PONG, CREDITS and DEMAND; END is the end of the transport, or of our patience.
    """

    SEND_HELLO = 0
    RECEIVE_HELLO = 1
    SEND_OPEN = 2
    RECEIVE_OPEN = 3
    SEND_STREAM_FRAME = 4
    RECEIVE_STREAM_FRAME = 5
    SEND_CONTROL = 6
    RECEIVE_CONTROL = 7
    SEND_GOAWAY = 8
    RECEIVE_GOAWAY = 9
    END = 10


class StreamState(enum.IntEnum):
    """Where a stream stands: what is still to come of the request and of the answer."""

    IDLE = 0
    REQUESTING = 1
    """The request is flowing."""
    REQUESTED = 2
    """The request is complete."""
    ANSWERING_EARLY = 3
    """The request is flowing, and so is the answer."""
    ANSWERING = 4
    """The request is complete, the answer is flowing."""
    CLOSED = 5


class StreamInput(enum.IntEnum):
    """What can happen to a stream; ``…_END`` is the same frame with its end flag set."""

    OPEN = 0
    OPEN_END = 1
    REQUEST_DATA = 2
    REQUEST_DATA_END = 3
    ANSWER = 4
    ANSWER_END = 5
    ANSWER_DATA = 6
    ANSWER_DATA_END = 7
    REQUEST_WINDOW = 8
    """The answering end takes more of the request."""
    ANSWER_WINDOW = 9
    """The asking end takes more of the answer."""
    CANCEL = 10


_C = ConnectionState
_CI = ConnectionInput

CONNECTION_TABLE: dict[tuple[ConnectionState, ConnectionInput], ConnectionState] = {
    (_C.IDLE, _CI.SEND_HELLO): _C.HELLO_SENT,
    (_C.IDLE, _CI.RECEIVE_HELLO): _C.HELLO_RECEIVED,
    (_C.IDLE, _CI.SEND_GOAWAY): _C.CLOSED,
    (_C.IDLE, _CI.RECEIVE_GOAWAY): _C.CLOSED,
    (_C.IDLE, _CI.END): _C.CLOSED,
    (_C.HELLO_SENT, _CI.RECEIVE_HELLO): _C.OPEN,
    (_C.HELLO_SENT, _CI.SEND_GOAWAY): _C.CLOSED,
    (_C.HELLO_SENT, _CI.RECEIVE_GOAWAY): _C.CLOSED,
    (_C.HELLO_SENT, _CI.END): _C.CLOSED,
    (_C.HELLO_RECEIVED, _CI.SEND_HELLO): _C.OPEN,
    (_C.HELLO_RECEIVED, _CI.SEND_GOAWAY): _C.CLOSED,
    (_C.HELLO_RECEIVED, _CI.RECEIVE_GOAWAY): _C.CLOSED,
    (_C.HELLO_RECEIVED, _CI.END): _C.CLOSED,
    (_C.OPEN, _CI.SEND_OPEN): _C.OPEN,
    (_C.OPEN, _CI.RECEIVE_OPEN): _C.OPEN,
    (_C.OPEN, _CI.SEND_STREAM_FRAME): _C.OPEN,
    (_C.OPEN, _CI.RECEIVE_STREAM_FRAME): _C.OPEN,
    (_C.OPEN, _CI.SEND_CONTROL): _C.OPEN,
    (_C.OPEN, _CI.RECEIVE_CONTROL): _C.OPEN,
    (_C.OPEN, _CI.SEND_GOAWAY): _C.GOING_AWAY,
    (_C.OPEN, _CI.RECEIVE_GOAWAY): _C.PEER_GOING_AWAY,
    (_C.OPEN, _CI.END): _C.CLOSED,
    (_C.GOING_AWAY, _CI.RECEIVE_OPEN): _C.GOING_AWAY,
    (_C.GOING_AWAY, _CI.SEND_STREAM_FRAME): _C.GOING_AWAY,
    (_C.GOING_AWAY, _CI.RECEIVE_STREAM_FRAME): _C.GOING_AWAY,
    (_C.GOING_AWAY, _CI.SEND_CONTROL): _C.GOING_AWAY,
    (_C.GOING_AWAY, _CI.RECEIVE_CONTROL): _C.GOING_AWAY,
    (_C.GOING_AWAY, _CI.RECEIVE_GOAWAY): _C.DRAINING,
    (_C.GOING_AWAY, _CI.END): _C.CLOSED,
    (_C.PEER_GOING_AWAY, _CI.SEND_GOAWAY): _C.DRAINING,
    (_C.PEER_GOING_AWAY, _CI.END): _C.CLOSED,
    (_C.DRAINING, _CI.SEND_STREAM_FRAME): _C.DRAINING,
    (_C.DRAINING, _CI.RECEIVE_STREAM_FRAME): _C.DRAINING,
    (_C.DRAINING, _CI.SEND_CONTROL): _C.DRAINING,
    (_C.DRAINING, _CI.RECEIVE_CONTROL): _C.DRAINING,
    (_C.DRAINING, _CI.END): _C.CLOSED,
    (_C.CLOSED, _CI.END): _C.CLOSED,
}

_S = StreamState
_SI = StreamInput

STREAM_TABLE: dict[tuple[StreamState, StreamInput], StreamState] = {
    (_S.IDLE, _SI.OPEN): _S.REQUESTING,
    (_S.IDLE, _SI.OPEN_END): _S.REQUESTED,
    (_S.REQUESTING, _SI.REQUEST_DATA): _S.REQUESTING,
    (_S.REQUESTING, _SI.REQUEST_DATA_END): _S.REQUESTED,
    (_S.REQUESTING, _SI.REQUEST_WINDOW): _S.REQUESTING,
    (_S.REQUESTING, _SI.ANSWER): _S.ANSWERING_EARLY,
    (_S.REQUESTING, _SI.ANSWER_END): _S.CLOSED,
    (_S.REQUESTING, _SI.CANCEL): _S.CLOSED,
    # A WINDOW that crossed the end of what it was for is harmless, so it is allowed until the
    # stream is closed.
    (_S.REQUESTED, _SI.REQUEST_WINDOW): _S.REQUESTED,
    (_S.REQUESTED, _SI.ANSWER): _S.ANSWERING,
    (_S.REQUESTED, _SI.ANSWER_END): _S.CLOSED,
    (_S.REQUESTED, _SI.CANCEL): _S.CLOSED,
    (_S.ANSWERING_EARLY, _SI.REQUEST_DATA): _S.ANSWERING_EARLY,
    (_S.ANSWERING_EARLY, _SI.REQUEST_DATA_END): _S.ANSWERING,
    (_S.ANSWERING_EARLY, _SI.REQUEST_WINDOW): _S.ANSWERING_EARLY,
    (_S.ANSWERING_EARLY, _SI.ANSWER_DATA): _S.ANSWERING_EARLY,
    (_S.ANSWERING_EARLY, _SI.ANSWER_DATA_END): _S.CLOSED,
    (_S.ANSWERING_EARLY, _SI.ANSWER_WINDOW): _S.ANSWERING_EARLY,
    (_S.ANSWERING_EARLY, _SI.CANCEL): _S.CLOSED,
    (_S.ANSWERING, _SI.REQUEST_WINDOW): _S.ANSWERING,
    (_S.ANSWERING, _SI.ANSWER_DATA): _S.ANSWERING,
    (_S.ANSWERING, _SI.ANSWER_DATA_END): _S.CLOSED,
    (_S.ANSWERING, _SI.ANSWER_WINDOW): _S.ANSWERING,
    (_S.ANSWERING, _SI.CANCEL): _S.CLOSED,
}


def next_connection_state(state: ConnectionState, what: ConnectionInput) -> ConnectionState | None:
    """Return the state after ``what``; None is the protocol error."""
    return CONNECTION_TABLE.get((state, what))


def next_stream_state(state: StreamState, what: StreamInput) -> StreamState | None:
    """Return the state after ``what``; None is the protocol error."""
    return STREAM_TABLE.get((state, what))
