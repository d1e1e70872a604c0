"""decode after encode is the identity, however the bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import RemoteProtocolError
from node_agent.wire import frames
from node_agent.wire.buffer import FrameBuffer
from node_agent.wire.frames import decode_frame, encode_frame

stream_ids = st.integers(1, 2**62)
counts = st.integers(0, 2**31 - 1)
positives = st.integers(1, 2**31 - 1)
payloads = st.binary(max_size=300)
tokens = st.binary(min_size=8, max_size=8)

any_frame = st.one_of(
    st.builds(
        frames.Hello,
        st.integers(1, 65_535),
        st.integers(1, 65_535),
        st.text(min_size=1, max_size=100),
        positives,
        positives,
        positives,
        counts,
    ),
    st.builds(
        frames.Open,
        stream_ids,
        st.text(min_size=1, max_size=64),
        st.binary(min_size=16, max_size=16),
        st.integers(0, frames.MAX_DEADLINE_MS),
        counts,
        payloads,
        st.booleans(),
    ),
    st.builds(frames.Data, stream_ids, payloads, st.booleans()),
    st.builds(frames.Answer, stream_ids, counts, counts, payloads, st.booleans()),
    st.builds(frames.Window, stream_ids, positives),
    st.builds(frames.Credits, counts),
    st.builds(frames.Demand, counts),
    st.builds(frames.Cancel, stream_ids, counts),
    st.builds(frames.Ping, tokens),
    st.builds(frames.Pong, tokens),
    st.builds(frames.GoAway, counts, st.integers(0, 2**62), st.text(max_size=256)),
)


@given(any_frame)
def test_decoding_undoes_encoding(frame: frames.Frame) -> None:
    assert decode_frame(encode_frame(frame)[4:]) == frame


@given(st.lists(any_frame, max_size=6), st.lists(st.integers(1, 50), max_size=60))
def test_however_the_bytes_are_cut(sent: list[frames.Frame], cuts: list[int]) -> None:
    data = b"".join(encode_frame(frame) for frame in sent)
    buffer = FrameBuffer(65_536)
    found: list[frames.Frame] = []
    for size in cuts:
        found += buffer.feed(data[:size])
        data = data[size:]
    found += buffer.feed(data)
    assert found == sent
    assert buffer.buffered_bytes == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    try:
        frame = decode_frame(body)
    except RemoteProtocolError:
        return
    # What decodes means the same again; it need not have been in its shortest form.
    assert decode_frame(encode_frame(frame)[4:]) == frame
