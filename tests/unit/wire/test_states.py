"""What the transition tables promise, beyond each single entry."""

from __future__ import annotations

from typing import TypeVar

import pytest

from node_agent.wire.codes import Code, Status, code_name
from node_agent.wire.states import (
    CONNECTION_TABLE,
    STREAM_TABLE,
    ConnectionInput,
    ConnectionState,
    StreamInput,
    StreamState,
)

StateT = TypeVar("StateT")
InputT = TypeVar("InputT")


@pytest.mark.parametrize("state", ConnectionState)
def test_every_connection_state_can_end(state: ConnectionState) -> None:
    assert CONNECTION_TABLE[state, ConnectionInput.END] is ConnectionState.CLOSED


def test_nothing_leaves_a_closed_connection() -> None:
    left = [what for state, what in CONNECTION_TABLE if state is ConnectionState.CLOSED]
    assert left == [ConnectionInput.END]


def test_nothing_leaves_a_closed_stream() -> None:
    assert not [what for state, what in STREAM_TABLE if state is StreamState.CLOSED]


def test_every_connection_state_can_be_reached() -> None:
    assert reachable(CONNECTION_TABLE, ConnectionState.IDLE) == set(ConnectionState)


def test_every_stream_state_can_be_reached() -> None:
    assert reachable(STREAM_TABLE, StreamState.IDLE) == set(StreamState)


@pytest.mark.parametrize(
    "state", [state for state in StreamState if state not in (StreamState.IDLE, StreamState.CLOSED)]
)
def test_every_open_stream_can_be_cancelled(state: StreamState) -> None:
    assert STREAM_TABLE[state, StreamInput.CANCEL] is StreamState.CLOSED


def test_only_an_open_connection_opens_streams() -> None:
    opening = [state for state, what in CONNECTION_TABLE if what is ConnectionInput.SEND_OPEN]
    assert opening == [ConnectionState.OPEN]


@pytest.mark.parametrize(
    "ending", [StreamInput.ANSWER_END, StreamInput.ANSWER_DATA_END, StreamInput.CANCEL]
)
def test_the_end_of_the_answer_ends_the_stream(ending: StreamInput) -> None:
    after = {to for (_, what), to in STREAM_TABLE.items() if what is ending}
    assert after == {StreamState.CLOSED}


def test_numbers_on_the_wire_never_change() -> None:
    assert {code.name: code.value for code in Code} == {
        "NONE": 0,
        "PROTOCOL": 1,
        "FRAME_TOO_LARGE": 2,
        "FLOW_CONTROL": 3,
        "CREDITS_EXCEEDED": 4,
        "VERSION": 5,
        "IDENTITY": 6,
        "UNTRUSTED": 7,
        "HELLO_TIMEOUT": 8,
        "KEEP_ALIVE": 9,
        "WRITE_STALLED": 10,
        "TOO_MUCH": 11,
        "CANCELLED": 12,
        "REFUSED": 13,
        "INTERNAL": 14,
        "MESSAGE_STALLED": 15,
    }
    assert [status.name for status in Status] == [
        "OK",
        "DENIED",
        "NOT_FOUND",
        "INVALID",
        "CONFLICT",
        "UNAVAILABLE",
        "DEADLINE",
        "INTERNAL",
    ]


def test_an_unknown_code_has_its_number_as_name() -> None:
    assert code_name(Code.KEEP_ALIVE) == "keep_alive"
    assert code_name(999) == "999"


def reachable(table: dict[tuple[StateT, InputT], StateT], start: StateT) -> set[StateT]:
    found, pending = {start}, [start]
    while pending:
        here = pending.pop()
        for (state, _), after in table.items():
            if state == here and after not in found:
                found.add(after)
                pending.append(after)
    return found
