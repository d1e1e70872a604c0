"""A TCP relay that treats a link as badly as networks do."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from node_agent.config import Address

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Relay"]

_CHUNK_BYTES = 65_536


class Relay:
    """Listens on loopback and forwards to ``target``. Directions: ``up`` is from the dialler to the
    target, ``down`` the other way.

    Unrealistic: bytes that were read but not forwarded are held here, so a stalled direction still
    takes one more chunk than the kernel's buffers.
    """

    def __init__(self, target: Address, *, delay_seconds: float = 0.0) -> None:
        self.target = target
        self.delay_seconds = delay_seconds
        self.accepted = 0
        self.refuses = False
        self._gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._swallowing: set[str] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.resume()

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        # The kernel grows its buffers to megabytes; a stall must not take that much to be felt.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK_BYTES)
        self._server = await asyncio.start_server(self._accept, sock=listening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def address(self) -> Address:
        """Where to dial."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    @property
    def open_connections(self) -> int:
        """Connections that are relayed now."""
        return sum(not writer.is_closing() for writer in self._writers) // 2

    def stall(self, *directions: str) -> None:
        """Stop reading in the given directions (both if none): the sender's buffers fill up."""
        for direction in directions or ("up", "down"):
            self._gates[direction].clear()

    def swallow(self, *directions: str) -> None:
        """Read and throw away: the sender believes in a healthy connection (half-open)."""
        self._swallowing.update(directions or ("up", "down"))

    def resume(self) -> None:
        """Forward again. What was swallowed stays lost."""
        self._swallowing.clear()
        for gate in self._gates.values():
            gate.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self.target.host, self.target.port
            )
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for direction, source, sink in (
            ("up", reader, far_writer),
            ("down", far_reader, writer),
        ):
            task = asyncio.get_running_loop().create_task(self._pump(direction, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while True:
                await self._gates[direction].wait()
                data = await source.read(_CHUNK_BYTES)
                if not data:
                    break
                await self._gates[direction].wait()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if direction not in self._swallowing:
                    sink.write(data)
                    await sink.drain()
        if direction not in self._swallowing:
            sink.close()
