"""The socket between agent and worker: whole messages in order, however the bytes arrive."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.status_workers.channel import Channel, open_channel
from node_agent.status_workers.messages import (
    MAX_FRAME_OCTETS,
    Confirm,
    CrlDropped,
    Dropped,
    FromAgent,
    Listen,
    Pulse,
    Signature,
    decode_from_agent,
    decode_from_worker,
    encode_frame,
)
from tests.support.event_loop import run

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES: tuple[FromAgent, ...] = (
    Dropped("ca", (b"\x01" * 20, b"\x02" * 20)),
    CrlDropped("ca"),
    Pulse(7, "degraded", None),
    Listen(),
    Signature(3, b"signature"),
)


def channel(taken: list[FromAgent]) -> Channel[FromAgent]:
    return Channel(decode_from_agent, on_message=taken.append, on_lost=lambda: None)


def feed(pieces: Sequence[bytes]) -> list[FromAgent]:
    taken: list[FromAgent] = []
    end = channel(taken)
    for piece in pieces:
        end.data_received(piece)
    return taken


@given(st.lists(st.integers(1, 40), max_size=60))
def test_messages_are_whole_and_in_order_however_they_are_cut(cuts: list[int]) -> None:
    data, pieces = b"".join(map(encode_frame, MESSAGES)), list[bytes]()
    for size in cuts:
        pieces.append(data[:size])
        data = data[size:]
    assert feed([*pieces, data]) == list(MESSAGES)


@pytest.mark.parametrize(
    "nonsense",
    [
        (MAX_FRAME_OCTETS + 1).to_bytes(4, "big"),
        (3).to_bytes(4, "big") + b"abc",
        encode_frame(
            Confirm(
                number=1,
                answers={},
                kept_answers=0,
                kept_octets=0,
                connections=0,
                memory_octets=0,
            )
        ),
    ],
    ids=["too-long", "no-message", "a-worker's-own"],
)
def test_what_makes_no_sense_ends_the_socket(nonsense: bytes) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        lost = asyncio.Event()
        taken: list[FromAgent] = []
        with theirs:
            ours.setblocking(False)
            end: Channel[FromAgent] = Channel(
                decode_from_agent, on_message=taken.append, on_lost=lost.set
            )
            await open_channel(ours, end)
            theirs.sendall(nonsense + encode_frame(Listen()))
            await asyncio.wait_for(lost.wait(), 5)
        assert taken == []

    run(scenario())


def test_answers_to_messages_that_came_together_leave_together() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        ended = asyncio.Event()
        with theirs:
            ours.setblocking(False)
            theirs.setblocking(False)

            def answer(message: FromAgent) -> None:
                assert isinstance(message, Pulse)
                end.send(CrlDropped(str(message.number)))
                if message.number == 2:
                    end.close()

            end: Channel[FromAgent] = Channel(
                decode_from_agent, on_message=answer, on_lost=ended.set
            )
            await open_channel(ours, end)
            theirs.sendall(b"".join(encode_frame(Pulse(n, "ok", 0.0)) for n in range(3)))
            await asyncio.wait_for(ended.wait(), 5)
            assert theirs.recv(4096) == b"".join(encode_frame(CrlDropped(str(n))) for n in range(3))

    run(scenario())


def test_a_worker_speaks_its_own_language_only() -> None:
    frame = encode_frame(Listen())
    with pytest.raises(Exception, match="Listen"):
        decode_from_worker(frame[4:])
