"""From a stream of bytes to frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.errors import RemoteProtocolError
from node_agent.wire.codes import Code
from node_agent.wire.frames import LENGTH_BYTES, Frame, decode_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FrameBuffer"]


class FrameBuffer:
    """Cuts received bytes into frames; never holds more than one incomplete frame."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._partial = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete frame that are held."""
        return len(self._partial)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield every frame that ``data`` completes. You must exhaust the iterator.

        Raises RemoteProtocolError on a frame that is too large, empty or malformed; nothing
        after it can be trusted, so the connection has to end then.
        """
        if self._partial:
            # Appending to a bytearray is amortized: a frame that comes in single bytes costs its
            # length, not its square.
            self._partial += data
            source: bytes | bytearray = self._partial
        else:
            source = data
        offset, end = 0, len(source)
        with memoryview(source) as view:
            while end - offset >= LENGTH_BYTES:
                start = offset + LENGTH_BYTES
                stop = start + self._checked(int.from_bytes(view[offset:start], "big"))
                if stop > end:
                    break
                yield decode_frame(view[start:stop])
                offset = stop
        if source is data:
            self._partial += data[offset:]
        else:
            del self._partial[:offset]

    def _checked(self, size: int) -> int:
        if size > self._max_frame_bytes:
            raise RemoteProtocolError(
                f"a frame of {size} bytes; the limit is {self._max_frame_bytes}",
                code=Code.FRAME_TOO_LARGE,
            )
        if size == 0:
            raise RemoteProtocolError("an empty frame", code=Code.PROTOCOL)
        return size
