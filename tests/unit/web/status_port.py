"""A status port for tests, and small ways to ask it things."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import urllib.parse
from typing import TYPE_CHECKING, Any

from node_agent.config import Address
from node_agent.web.listen import bind_tcp
from node_agent.web.status_server import StatusServer
from node_agent.web.status_settings import StatusSettings
from tests.support.event_loop import run
from tests.unit.web.http_client import Answer, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.unit.web.status_double import MemoryStatus

__all__ = [
    "OCSP_TYPE",
    "TRY_LATER",
    "connections",
    "exchange",
    "get_target",
    "post",
    "status_port",
    "until",
]

TRY_LATER = bytes.fromhex("30030a0103")
OCSP_TYPE = "application/ocsp-response"


@contextlib.asynccontextmanager
async def status_port(
    backend: MemoryStatus, **limits: Any
) -> AsyncIterator[tuple[StatusServer, int]]:
    """A status port on a free port of the loopback address."""
    settings = StatusSettings(**limits)
    async with StatusServer(
        backend, bind_tcp(Address("127.0.0.1", 0)), settings=settings
    ) as server:
        yield server, server.addresses[0][1]


def exchange(backend: MemoryStatus, method: str, target: str, **options: Any) -> Answer:
    """One request to a fresh status port."""

    async def main() -> Answer:
        async with status_port(backend) as (_, port), await Client.tcp(port) as client:
            return await client.request(method, target, **options)

    return run(main())


def get_target(request: bytes, prefix: str = "/ocsp/") -> str:
    """Return the GET target of an OCSP request."""
    return prefix + urllib.parse.quote(base64.b64encode(request).decode(), safe="")


async def until(condition: Callable[[], Any]) -> None:
    """Wait until ``condition`` holds; the test's deadline ends a vain wait."""
    while not condition():  # noqa: ASYNC110  # the server under test has no event for it
        await asyncio.sleep(0.005)


async def connections(server: StatusServer, count: int) -> list[Any]:
    """Wait until the server has ``count`` connections; return them."""
    await until(lambda: len(server.connections) == count)
    return list(server.connections)


def post(body: bytes) -> bytes:
    """Return a POST of an OCSP request as bytes."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
