"""One end of the socket between the agent and a status worker: frames in, frames out, in order.

Messages are handled as they arrive, without a task between: what a worker has confirmed, it has
done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from node_agent.status_workers.messages import (
    MAX_FRAME_OCTETS,
    FromAgent,
    FromWorker,
    encode_frame,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Channel", "open_channel"]

log = structlog.get_logger(__name__)

MessageT = TypeVar("MessageT", bound=msgspec.Struct)


class Channel(asyncio.Protocol, Generic[MessageT]):
    """``on_message`` takes what comes, ``on_lost`` hears once that nothing more will."""

    def __init__(
        self,
        decode: Callable[[bytes], MessageT],
        *,
        on_message: Callable[[MessageT], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._decode = decode
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._arrived = bytearray()
        self._leaving: list[bytes] | None = None

    def send(self, message: FromAgent | FromWorker) -> None:
        """Send, unless the other side is gone."""
        frame = encode_frame(message)
        if self._leaving is not None:
            self._leaving.append(frame)
        elif self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        """Close, once what was sent has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream socket has one

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._transport = None
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Handle every whole message. Answers to them leave together: one system call for many."""
        self._arrived += data
        self._leaving = []
        try:
            self._handle()
        except msgspec.DecodeError as error:
            log.error("the other end of a status worker's socket makes no sense", reason=str(error))
            self.close()
        finally:
            self._flush()

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving and self._transport is not None:
            self._transport.writelines(leaving)

    def _handle(self) -> None:
        arrived, start = self._arrived, 0
        while len(arrived) - start >= 4:
            size = int.from_bytes(arrived[start : start + 4], "big")
            if size > MAX_FRAME_OCTETS:
                raise msgspec.DecodeError(f"a frame of {size} octets")
            end = start + 4 + size
            if len(arrived) < end:
                break
            self._on_message(self._decode(bytes(memoryview(arrived)[start + 4 : end])))
            start = end
        del arrived[:start]


async def open_channel(end: socket.socket, channel: Channel[MessageT]) -> None:
    """Let ``channel`` speak on a connected socket, which it closes."""
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=end)
