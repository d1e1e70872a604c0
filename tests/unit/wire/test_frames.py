"""The codec: one table of frames and bytes, used in both directions."""

from __future__ import annotations

import msgspec
import pytest

from node_agent.errors import RemoteProtocolError
from node_agent.wire import frames
from node_agent.wire.buffer import FrameBuffer
from node_agent.wire.codes import Code
from node_agent.wire.frames import decode_frame, encode_frame
from tests.support.frames import REQUEST_ID, make

EVERY_KIND = [
    frames.Hello,
    frames.Open,
    frames.Data,
    frames.Answer,
    frames.Window,
    frames.Credits,
    frames.Demand,
    frames.Cancel,
    frames.Ping,
    frames.Pong,
    frames.GoAway,
]

SIMPLE_CASES = [
    (frames.Window(1, 65_536), "93 05 01 ce00010000"),
    (frames.Credits(50), "92 06 32"),
    (frames.Demand(3), "92 07 03"),
    (frames.Cancel(7, 12), "93 08 07 0c"),
    (frames.Ping(b"\1\2\3\4\5\6\7\10"), "92 09 c408 0102030405060708"),
    (frames.Pong(b"\1\2\3\4\5\6\7\10"), "92 0a c408 0102030405060708"),
    (frames.GoAway(0, 9, "bye"), "94 0b 00 09 a3 627965"),
    (frames.Data(2, b"ab", True), "94 03 02 c402 6162 c3"),
    (frames.Answer(2, 1, 2, b"no", True), "96 04 02 01 02 c402 6e6f c3"),
    (
        frames.Open(1, "x", REQUEST_ID, 1000, 2, b"hi", False),
        "98 02 01 a178 c410 000102030405060708090a0b0c0d0e0f cd03e8 02 c402 6869 c2",
    ),
    (
        frames.Hello(1, 1, "n", 65_536, 4_194_304, 262_144, 50),
        "98 01 01 01 a16e ce00010000 ce00400000 ce00040000 32",
    ),
]


@pytest.mark.parametrize(("frame", "body"), SIMPLE_CASES)
def test_frame_has_the_documented_bytes(frame: frames.Frame, body: str) -> None:
    raw = bytes.fromhex(body)
    assert encode_frame(frame) == len(raw).to_bytes(4, "big") + raw


@pytest.mark.parametrize(("frame", "body"), SIMPLE_CASES)
def test_documented_bytes_decode_to_the_frame(frame: frames.Frame, body: str) -> None:
    assert decode_frame(bytes.fromhex(body)) == frame


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_survives_byte_by_byte(kind: type[frames.Frame]) -> None:
    buffer = FrameBuffer(65_536)
    found = [frame for byte in encode_frame(make(kind)) * 2 for frame in buffer.feed(bytes([byte]))]
    assert found == [make(kind), make(kind)]
    assert buffer.buffered_bytes == 0


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_junk_behind_a_frame_inside_its_length_is_refused(kind: type[frames.Frame]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_frame(encode_frame(make(kind))[4:] + b"\xc0")
    assert caught.value.code == Code.PROTOCOL


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_cut_frame_is_refused(kind: type[frames.Frame]) -> None:
    body = encode_frame(make(kind))[4:]
    for length in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            decode_frame(body[:length])


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind is not frames.Hello])
def test_an_extra_field_is_refused(kind: type[frames.Frame]) -> None:
    fields = msgspec.msgpack.decode(encode_frame(make(kind))[4:])
    with pytest.raises(RemoteProtocolError):
        decode_frame(msgspec.msgpack.encode([*fields, 1]))


def test_hello_of_a_later_version_may_have_more_fields() -> None:
    fields = msgspec.msgpack.decode(encode_frame(make(frames.Hello))[4:])
    assert decode_frame(msgspec.msgpack.encode([*fields, "new"])) == make(frames.Hello)


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        (frames.Open, {"stream": 0}),
        (frames.Open, {"stream": 2**62 + 1}),
        (frames.Open, {"method": ""}),
        (frames.Open, {"method": "m" * 65}),
        (frames.Open, {"request_id": bytes(15)}),
        (frames.Open, {"request_id": bytes(17)}),
        (frames.Open, {"deadline_ms": -1}),
        (frames.Open, {"deadline_ms": 86_400_001}),
        (frames.Open, {"message_bytes": 2**31}),
        (frames.Open, {"end": 1}),
        (frames.Open, {"payload": "text"}),
        (frames.Data, {"stream": -1}),
        (frames.Window, {"size": 0}),
        (frames.Window, {"size": 2**31}),
        (frames.Credits, {"parallel_requests": -1}),
        (frames.Ping, {"token": bytes(7)}),
        (frames.Pong, {"token": bytes(9)}),
        (frames.GoAway, {"reason": "r" * 257}),
        (frames.Hello, {"node": ""}),
        (frames.Hello, {"node": "n" * 513}),
        (frames.Hello, {"lowest_version": 0}),
        (frames.Hello, {"max_frame_bytes": 0}),
        (frames.Answer, {"status": -1}),
    ],
)
def test_a_value_out_of_bounds_is_refused(
    kind: type[frames.Frame], overrides: dict[str, object]
) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(encode_frame(make(kind, **overrides))[4:])


@pytest.mark.parametrize(
    "body",
    [
        "c0",  # nil
        "80",  # an empty map
        "90",  # an empty array
        "91 00",  # no such frame
        "91 0c",  # no such frame
        "92 a131 32",  # the tag as text
        "92 06 c7 01 01 00",  # an extension type
        "92 06 d7 ff 0000000000000000",  # a timestamp
        "92 06 cb 4049000000000000",  # 50.0, a float
        "92 07 c3",  # a boolean where a number belongs
        "94 0b 00 00 a2 fffe",  # text that isn't UTF-8
    ],
)
def test_what_the_schema_does_not_name_is_refused(body: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_frame(bytes.fromhex(body))
    assert caught.value.code == Code.PROTOCOL


def test_deep_nesting_in_a_skipped_field_is_refused_without_a_crash() -> None:
    fields = encode_frame(make(frames.Hello))[5:]
    body = b"\x99" + fields + b"\x91" * 50_000
    with pytest.raises(RemoteProtocolError):
        decode_frame(body)
