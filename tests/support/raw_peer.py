"""A peer below the protocol core: TLS with a valid certificate, and any bytes at all on it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Self

from node_agent.config import parse_address
from node_agent.wire.frames import LENGTH_BYTES, GoAway, Hello, decode_frame, encode_frame
from tests.support.frames import make

if TYPE_CHECKING:
    from types import TracebackType

    from node_agent.net import IdentityHolder
    from node_agent.wire.frames import Frame

__all__ = ["RawPeer"]


class RawPeer:
    """A connection to ``address`` that is through with Hello; a context manager."""

    def __init__(
        self, holder: IdentityHolder, address: str, *, timeout_seconds: float = 10, **hello: Any
    ) -> None:
        self._holder = holder
        self._address = parse_address(address)
        self._timeout_seconds = timeout_seconds
        self._hello = {"node": holder.node.uri, **hello}

    def __enter__(self) -> Self:
        target = (self._address.host, self._address.port)
        plain = socket.create_connection(target, timeout=self._timeout_seconds)
        self._socket = self._holder.current.client_context.wrap_socket(plain)
        self.send(make(Hello, **self._hello))
        assert isinstance(self.receive(), Hello)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, *frames: Frame) -> None:
        """Send frames, whatever the protocol says about them."""
        self.send_bytes(b"".join(map(encode_frame, frames)))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes; what the other end no longer takes is lost."""
        try:
            self._socket.sendall(data)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end."""
        length = self._read(LENGTH_BYTES)
        if length is None:
            return None
        body = self._read(int.from_bytes(length, "big"))
        return None if body is None else decode_frame(body)

    def end(self) -> GoAway | None:
        """Read until the connection ends; return why it did. Raises TimeoutError."""
        last: GoAway | None = None
        while (frame := self.receive()) is not None:
            if isinstance(frame, GoAway):
                last = frame
        return last

    def _read(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                chunk = self._socket.recv(count - len(data))
            except (ConnectionResetError, BrokenPipeError):
                return None
            if not chunk:
                return None
            data += chunk
        return data
