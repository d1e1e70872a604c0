"""The frames of ``peersys/1`` and their bytes.

A frame is four bytes of length (big-endian, of what follows) and a MessagePack array whose first
element is the frame's number. Each is decoded into one of the types below and nothing else: there
is no type on the wire that the schema doesn't name (CVE-2020-11630 is what the opposite leads to).

Every limit is enforced while decoding, before anything is allocated for it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from node_agent.errors import RemoteProtocolError
from node_agent.wire.codes import Code

__all__ = [
    "FRAME_OVERHEAD_BYTES",
    "LENGTH_BYTES",
    "MAX_DEADLINE_MS",
    "MINIMUM_FRAME_BYTES",
    "Answer",
    "Cancel",
    "Credits",
    "Data",
    "Demand",
    "Frame",
    "GoAway",
    "Hello",
    "Open",
    "Ping",
    "Pong",
    "Window",
    "decode_frame",
    "encode_frame",
]

LENGTH_BYTES: Final = 4
# A peer may not ask for smaller frames: HTTP/2 has the same floor (RFC 9113, 4.2).
MINIMUM_FRAME_BYTES: Final = 16_384
# What Open needs beside its payload: 64 characters of method, 16 bytes of id, five integers.
FRAME_OVERHEAD_BYTES: Final = 512
# A request that may take longer than a day isn't a request; gRPC allows 8 digits of hours.
MAX_DEADLINE_MS: Final = 86_400_000

# 2**62 streams are not used up by any link; MessagePack and every language still hold the number.
_StreamId = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_LastStream = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
# Method names are dotted lower-case ASCII; gRPC and HTTP allow far more, none of ours needs it.
_Method = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_RequestId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Deadline = Annotated[int, msgspec.Meta(ge=0, le=MAX_DEADLINE_MS)]
# RFC 9113 lets GOAWAY carry any debug data; a sentence is enough, and it goes into logs.
_Reason = Annotated[str, msgspec.Meta(max_length=256)]
# SPIFFE-ID, section 2.3: at most 2048 bytes; our names are bounded by DNS far below that.
_Node = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Token = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class _Frame(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    pass


class Hello(msgspec.Struct, array_like=True, gc=False, tag=1):
    """The first frame in each direction. Later versions may append fields; they are skipped."""

    lowest_version: _Version
    highest_version: _Version
    node: _Node
    max_frame_bytes: _Positive
    max_message_bytes: _Positive
    stream_window_bytes: _Positive
    credits: _Count


class Open(_Frame, tag=2):
    """A request: its message has ``message_bytes`` bytes, what follows them is the body."""

    stream: _StreamId
    method: _Method
    request_id: _RequestId
    deadline_ms: _Deadline
    message_bytes: _Count
    payload: bytes
    end: bool


class Data(_Frame, tag=3):
    """More of a request (from the opener) or of an answer (from the other end)."""

    stream: _StreamId
    payload: bytes
    end: bool


class Answer(_Frame, tag=4):
    """The start of an answer whose message has ``message_bytes`` bytes."""

    stream: _StreamId
    status: _Count
    message_bytes: _Count
    payload: bytes
    end: bool


class Window(_Frame, tag=5):
    """The receiver takes ``size`` more bytes on the stream."""

    stream: _StreamId
    size: _Positive


class Credits(_Frame, tag=6):
    """From now on the receiver of this frame may have so many requests open at the sender."""

    parallel_requests: _Count


class Demand(_Frame, tag=7):
    """So many requests wait at the sender for a credit."""

    queued: _Count


class Cancel(_Frame, tag=8):
    """The stream is over, whatever is still on its way."""

    stream: _StreamId
    code: _Count


class Ping(_Frame, tag=9):
    """Answer with Pong and the same token."""

    token: _Token


class Pong(_Frame, tag=10):
    """The answer to Ping."""

    token: _Token


class GoAway(_Frame, tag=11):
    """The sender opens no more streams and looks at none of the receiver's above ``last_stream``.

    With a code other than NONE the connection is over at once.
    """

    code: _Count
    last_stream: _LastStream
    reason: _Reason


Frame = Hello | Open | Data | Answer | Window | Credits | Demand | Cancel | Ping | Pong | GoAway

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode_frame(frame: Frame) -> bytes:
    """Return the frame's bytes, length included."""
    body = _encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_frame(body: bytes | memoryview) -> Frame:
    """Return the frame that ``body`` (without its length) holds.

    Raises RemoteProtocolError with code PROTOCOL on anything else.
    """
    try:
        frame: Frame = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a frame: {error}", code=Code.PROTOCOL) from error
    return frame
