"""A peer below the protocol core: TLS with a valid certificate, and any bytes at all on it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Self

from node_agent.config import parse_address
from node_agent.wire.frames import (
    LENGTH_BYTES,
    GoAway,
    Hello,
    Ping,
    Pong,
    decode_frame,
    encode_frame,
)
from tests.support.frames import make
from tests.support.processes import free_address

if TYPE_CHECKING:
    from types import TracebackType

    from node_agent.net import IdentityHolder
    from node_agent.wire.frames import Frame

__all__ = ["RawListener", "RawPeer"]


class RawPeer:
    """A connection to ``address`` that is through with Hello; a context manager."""

    is_dialler = True

    def __init__(
        self, holder: IdentityHolder, address: str, *, timeout_seconds: float = 10, **hello: Any
    ) -> None:
        self._holder = holder
        self._address = parse_address(address)
        self._timeout_seconds = timeout_seconds
        self._hello = {"node": holder.node.uri, **hello}

    def __enter__(self) -> Self:
        self._socket = self._connect()
        self._greet()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def own(self, number: int = 0) -> int:
        """Return the id of the stream that it would open after ``number`` others."""
        return 2 * number + (1 if self.is_dialler else 2)

    def theirs(self, number: int = 0) -> int:
        """Return the same for the other end."""
        return 2 * number + (2 if self.is_dialler else 1)

    def send(self, *frames: Frame) -> None:
        """Send frames, whatever the protocol says about them."""
        self.send_bytes(b"".join(map(encode_frame, frames)))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes; what the other end no longer takes is lost."""
        try:
            self._socket.sendall(data)
        except (TimeoutError, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            return

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end."""
        length = self._read(LENGTH_BYTES)
        if length is None:
            return None
        body = self._read(int.from_bytes(length, "big"))
        return None if body is None else decode_frame(body)

    def end(self) -> GoAway | None:
        """Read, and answer pings, until the connection ends; return why it did.

        Raises TimeoutError when nothing comes for a while.
        """
        last: GoAway | None = None
        while (frame := self.receive()) is not None:
            if isinstance(frame, GoAway):
                last = frame
            elif isinstance(frame, Ping):
                self.send(make(Pong, token=frame.token))
        return last

    def _connect(self) -> ssl.SSLSocket:
        target = (self._address.host, self._address.port)
        plain = socket.create_connection(target, timeout=self._timeout_seconds)
        return self._holder.current.client_context.wrap_socket(plain)

    def _greet(self) -> None:
        self.send(make(Hello, **self._hello))
        assert isinstance(self.receive(), Hello)

    def _read(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                chunk = self._socket.recv(count - len(data))
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                return None
            if not chunk:
                return None
            data += chunk
        return data


class RawListener(RawPeer):
    """A port at ``address`` where it waits, once ``open``, for who dials it: a context manager
    from that connection's Hello on.
    """

    is_dialler = False

    def __init__(self, holder: IdentityHolder, **options: Any) -> None:
        self.address = free_address()
        super().__init__(holder, self.address, **options)
        target = (self._address.host, self._address.port)
        self._port = socket.create_server(target)
        self._port.settimeout(self._timeout_seconds)

    def close_port(self) -> None:
        """Take no further connection."""
        self._port.close()

    def _connect(self) -> ssl.SSLSocket:
        plain, _ = self._port.accept()
        plain.settimeout(self._timeout_seconds)
        return self._holder.current.server_context.wrap_socket(plain, server_side=True)

    def _greet(self) -> None:
        assert isinstance(self.receive(), Hello)
        self.send(make(Hello, **self._hello))
