"""A plain HTTP/1.1 client for tests, over whatever stream a test opened."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Answer", "Client"]


@dataclass(frozen=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body decoded."""
        return json.loads(self.body)


class Client:
    """One connection. ``send`` raw bytes and ``receive`` answers apart, to test pipelining."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def unix(cls, path: Path) -> Client:
        """Connect to a Unix socket."""
        return cls(*await asyncio.open_unix_connection(str(path), limit=2**20))

    @classmethod
    async def tcp(cls, port: int, **options: Any) -> Client:
        """Connect to a port of the loopback address."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20, **options))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # a reset by the server: the test has seen why
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Write raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, head: bool = False) -> Answer:
        """Read one answer; ``head``: the answer to a HEAD request, which has no body."""
        block = await self.reader.readuntil(b"\r\n\r\n")
        lines = block.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in filter(None, lines[1:]):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if head or status in (204, 304) else int(headers.get("content-length", "0"))
        return Answer(status, headers, await self.reader.readexactly(length))

    async def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request (``body``: bytes, or a value sent as JSON) and read its answer."""
        given = {"Host": "localhost"} | (headers or {})
        content = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            content = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        if body is not None:
            given.setdefault("Content-Length", str(len(content)))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        await self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content)
        return await self.receive(head=method == "HEAD")

    async def closed_by_server(self) -> bool:
        """Wait until the server ends the connection; False when it sends something instead."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True
