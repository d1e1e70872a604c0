"""Bytes to frames."""

from __future__ import annotations

import time

import pytest

from node_agent.errors import RemoteProtocolError
from node_agent.wire import frames
from node_agent.wire.buffer import FrameBuffer
from node_agent.wire.codes import Code
from node_agent.wire.frames import encode_frame
from tests.support.frames import make


def test_many_frames_in_one_piece_come_out_in_order() -> None:
    sent = [make(frames.Demand, queued=count) for count in range(100)]
    data = b"".join(encode_frame(frame) for frame in sent)
    assert list(FrameBuffer(65_536).feed(data)) == sent


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    sent = [make(frames.Cancel), make(frames.Data), make(frames.Ping)]
    data = b"".join(encode_frame(frame) for frame in sent)
    buffer = FrameBuffer(65_536)
    found = [*buffer.feed(data[:cut]), *buffer.feed(data[cut:])]
    assert found == sent
    assert buffer.buffered_bytes == 0


def test_a_length_above_the_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        list(FrameBuffer(65_536).feed((65_537).to_bytes(4, "big")))
    assert caught.value.code == Code.FRAME_TOO_LARGE


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        list(FrameBuffer(65_536).feed(bytes(4)))
    assert caught.value.code == Code.PROTOCOL


def test_frames_before_a_bad_one_are_delivered() -> None:
    buffer = FrameBuffer(65_536)
    found = buffer.feed(encode_frame(make(frames.Ping)) + b"\0\0\0\1\xc1")
    assert next(found) == make(frames.Ping)
    with pytest.raises(RemoteProtocolError):
        next(found)


def test_single_bytes_cost_their_length_and_not_its_square() -> None:
    large = make(frames.Data, payload=bytes(60_000))
    data = encode_frame(large)
    buffer = FrameBuffer(65_536)
    started = time.process_time()
    found = [frame for byte in data for frame in buffer.feed(bytes([byte]))]
    # Quadratic copying would move 1.8 GB here; the bound is a hundred times what linear work takes.
    assert time.process_time() - started < 5
    assert found == [large]
