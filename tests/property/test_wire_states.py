"""Every (state, input) pair of both tables, driven through the real core."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.errors import LocalProtocolError, RemoteProtocolError
from node_agent.wire import Code, Connection, WireSettings, events, frames
from node_agent.wire.settings import HelloInfo
from node_agent.wire.states import (
    CONNECTION_TABLE,
    STREAM_TABLE,
    ConnectionInput,
    ConnectionState,
    StreamInput,
    StreamState,
    next_connection_state,
    next_stream_state,
)
from node_agent.wire.stream import Stream
from tests.support.frames import DIALLER, LISTENER, make, only


@given(st.sampled_from(StreamState), st.sampled_from(StreamInput), st.booleans())
def test_stream_pair_moves_by_the_table_or_is_an_error(
    state: StreamState, what: StreamInput, is_ours: bool
) -> None:
    for step, error in (("send", LocalProtocolError), ("receive", RemoteProtocolError)):
        stream = Stream(1, is_ours=is_ours)
        stream.state = state
        expected = STREAM_TABLE.get((state, what))
        if expected is None:
            with pytest.raises(error):
                getattr(stream, step)(what)
            assert stream.state is state, "an illegal input changes nothing"
        else:
            getattr(stream, step)(what)
            assert stream.state is expected


@pytest.mark.parametrize(("state", "what"), list(product(ConnectionState, ConnectionInput)))
def test_lookup_is_the_table(state: ConnectionState, what: ConnectionInput) -> None:
    assert next_connection_state(state, what) == CONNECTION_TABLE.get((state, what))


@pytest.mark.parametrize(("state", "what"), list(product(StreamState, StreamInput)))
def test_stream_lookup_is_the_table(state: StreamState, what: StreamInput) -> None:
    assert next_stream_state(state, what) == STREAM_TABLE.get((state, what))


FRAME_INPUTS = {
    frames.Hello: ConnectionInput.RECEIVE_HELLO,
    frames.Open: ConnectionInput.RECEIVE_OPEN,
    frames.Data: ConnectionInput.RECEIVE_STREAM_FRAME,
    frames.Answer: ConnectionInput.RECEIVE_STREAM_FRAME,
    frames.Window: ConnectionInput.RECEIVE_STREAM_FRAME,
    frames.Cancel: ConnectionInput.RECEIVE_STREAM_FRAME,
    frames.Ping: ConnectionInput.RECEIVE_CONTROL,
    frames.Pong: ConnectionInput.RECEIVE_CONTROL,
    frames.Credits: ConnectionInput.RECEIVE_CONTROL,
    frames.Demand: ConnectionInput.RECEIVE_CONTROL,
    frames.GoAway: ConnectionInput.RECEIVE_GOAWAY,
}


def in_state(state: ConnectionState) -> Connection:
    """Return a real core that got into ``state`` by legal means, with one stream of each end."""
    initiator = state is ConnectionState.HELLO_SENT
    local = HelloInfo(DIALLER, LISTENER) if initiator else HelloInfo(LISTENER, DIALLER)
    core = Connection(WireSettings(), initiator=initiator, local=local)
    core.start(0)
    if state in (ConnectionState.IDLE, ConnectionState.HELLO_SENT):
        return core
    core.receive_data(frames.encode_frame(make(frames.Hello)), 0)
    core.receive_data(frames.encode_frame(make(frames.Open)), 0)
    core.open_stream("x", b"", request_id=bytes(16), deadline_seconds=1, has_body=True)
    match state:
        case ConnectionState.GOING_AWAY:
            core.go_away()
        case ConnectionState.DRAINING:
            core.receive_data(frames.encode_frame(make(frames.GoAway, last_stream=2)), 0)
        case ConnectionState.CLOSED:
            core.fail(Code.INTERNAL, "")
    core.next_events()
    return core


# HELLO_RECEIVED and PEER_GOING_AWAY are passed through within one call and never seen outside.
VISIBLE = [
    state
    for state in ConnectionState
    if state not in (ConnectionState.HELLO_RECEIVED, ConnectionState.PEER_GOING_AWAY)
]


@pytest.mark.parametrize(("state", "kind"), list(product(VISIBLE, FRAME_INPUTS)))
def test_every_frame_in_every_state(state: ConnectionState, kind: type[frames.Frame]) -> None:
    core = in_state(state)
    assert core.state is state
    overrides = {"stream": 3} if kind is frames.Open else {}
    if kind in (frames.Answer, frames.Window):
        overrides = {"stream": 2}
    if kind is frames.Data:
        overrides = {"stream": 1}
    if kind is frames.Hello and state is ConnectionState.HELLO_SENT:
        overrides = {"node": LISTENER}
    core.receive_data(frames.encode_frame(make(kind, **overrides)), 0)
    happened = core.next_events()
    allowed = (state, FRAME_INPUTS[kind]) in CONNECTION_TABLE
    ended = only(happened, events.ConnectionEnded)
    if state is ConnectionState.CLOSED:
        assert happened == []
    elif kind is frames.Data and allowed:
        assert ended[0].code == Code.PROTOCOL  # the stream table: that request had ended
    elif allowed:
        assert not [event for event in ended if event.error]
    else:
        assert ended[0].code == Code.PROTOCOL
        assert ended[0].error is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(list(FRAME_INPUTS)), max_size=12), st.integers(1, 8))
def test_no_sequence_of_frames_makes_the_core_raise(
    kinds: list[type[frames.Frame]], stream: int
) -> None:
    core = Connection(WireSettings(), initiator=False, local=HelloInfo(LISTENER, DIALLER))
    core.start(0)
    core.receive_data(frames.encode_frame(make(frames.Hello)), 0)
    for kind in kinds:
        has_stream = "stream" in kind.__struct_fields__
        frame = make(kind, stream=stream) if has_stream else make(kind)
        core.receive_data(frames.encode_frame(frame), 0)
    endings = only(core.next_events(), events.ConnectionEnded)
    assert len(endings) == int(core.is_closed)
