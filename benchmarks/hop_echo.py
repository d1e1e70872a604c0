"""Bare TLS between two processes: mutual certificates, TLS 1.3, asyncio on uvloop, no protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, cast

from benchmarks.hop_ends import (
    ANSWER_BYTES,
    CALLER,
    REQUEST_BYTES,
    SERVER,
    load_identity,
    take_latencies,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["call", "serve"]


class _Answerer(asyncio.Protocol):
    """Answers each REQUEST_BYTES with ANSWER_BYTES."""

    def __init__(self) -> None:
        self._received = 0
        self._answer = os.urandom(ANSWER_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count, and answer each whole request."""
        self._received += len(data)
        while self._received >= REQUEST_BYTES:
            self._received -= REQUEST_BYTES
            self._transport.write(self._answer)


class _Caller(asyncio.Protocol):
    """Sends a request and resolves a future when the whole answer is there."""

    def __init__(self) -> None:
        self._missing = 0
        self._waiter: asyncio.Future[None] | None = None
        self._request = os.urandom(REQUEST_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count the answer's bytes."""
        self._missing -= len(data)
        if self._missing == 0 and self._waiter is not None:
            self._waiter.set_result(None)

    async def exchange(self) -> None:
        """Send one request and wait for its answer."""
        self._missing = ANSWER_BYTES
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        await self._waiter


async def serve(directory: Path) -> None:
    """Print the port and answer until cancelled."""
    context = load_identity(directory, SERVER).current.server_context
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answerer, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()


async def call(directory: Path, port: int, seconds: float) -> dict[str, float]:
    """Return the latencies."""
    context = load_identity(directory, CALLER).current.client_context
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(_Caller, "127.0.0.1", port, ssl=context)
    try:
        return await take_latencies(caller.exchange, seconds)
    finally:
        caller.transport.abort()
