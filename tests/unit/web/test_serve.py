"""The ASGI server: limits before and between requests, and its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.config import Address
from node_agent.errors import ConfigError
from node_agent.web.listen import bind_tcp
from node_agent.web.serve import HttpServer, HttpSettings
from tests.support.event_loop import run
from tests.unit.web.http_client import Answer, Client
from tests.unit.web.status_port import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"], indirect=True)


class Application:
    """Answers 200 with the method; ``gate`` holds the answer back while it is cleared."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.gate.wait()
        body = scope["method"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(application: Application, **limits: Any) -> AsyncIterator[tuple[HttpServer, int]]:
    """An HTTP server on a free port."""
    sockets = bind_tcp(Address("127.0.0.1", 0))
    async with HttpServer(application, sockets, settings=HttpSettings(**limits)) as server:
        yield server, server.addresses[0][1]


def raw(data: bytes, **limits: Any) -> Answer:
    """Send raw bytes; return the answer, which must end the connection."""

    async def main() -> Answer:
        async with serving(Application(), **limits) as (_, port), await Client.tcp(port) as client:
            await client.send(data)
            answer = await client.receive()
            assert await client.closed_by_server()
            return answer

    return run(main())


def test_answer_has_a_date_and_no_server_name() -> None:
    async def main() -> None:
        async with serving(Application()) as (_, port), await Client.tcp(port) as client:
            answer = await client.request("GET", "/")
            assert answer.body == b"GET"
            assert answer.headers["date"].endswith("GMT")
            assert "server" not in answer.headers

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X-Filler: abcdefghij\r\n" * 1000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 20_000, 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_bad_or_oversize_headers_end_the_connection(data: bytes, status: int) -> None:
    answer = raw(data)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"\r\n"])
def test_slow_headers_end_the_connection(data: bytes) -> None:
    assert raw(data, header_seconds=0.05).status == 408


def test_slow_body_ends_the_connection() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"

    async def main() -> None:
        application = Application()
        application.gate.clear()
        async with (
            serving(application, body_seconds=0.05) as (_, port),
            await Client.tcp(port) as client,
        ):
            await client.send(head)
            assert (await client.receive()).status == 408
            assert await client.closed_by_server()
            application.gate.set()

    run(main())


def test_body_that_never_ends_behind_its_answer_does_not_hold_a_connection() -> None:
    async def main() -> None:
        async with (
            serving(Application(), body_seconds=0.05) as (_, port),
            await Client.tcp(port) as client,
        ):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            assert (await client.receive()).status == 200
            assert await client.closed_by_server()

    run(main())


def test_bare_line_ends_between_requests_do_not_hold_a_connection() -> None:
    async def main() -> None:
        async with (
            serving(Application(), header_seconds=0.1) as (_, port),
            await Client.tcp(port) as client,
        ):
            assert (await client.request("GET", "/")).status == 200
            await client.send(b"\r\n")
            assert (await client.receive()).status == 408

    run(main())


def test_long_answer_is_not_a_slow_request() -> None:
    async def main() -> None:
        application = Application()
        application.gate.clear()
        async with (
            serving(application, header_seconds=0.05) as (_, port),
            await Client.tcp(port) as client,
        ):
            waiting = asyncio.ensure_future(client.request("GET", "/"))
            await asyncio.sleep(0.15)  # three times what headers may take
            assert not waiting.done()
            application.gate.set()
            assert (await waiting).status == 200

    run(main())


def test_connection_over_the_limit_is_refused() -> None:
    async def main() -> None:
        async with (
            serving(Application(), max_connections=1) as (_, port),
            await Client.tcp(port) as first,
        ):
            assert (await first.request("GET", "/")).status == 200
            async with await Client.tcp(port) as second:
                assert await second.closed_by_server()
            assert (await first.request("GET", "/")).status == 200

    run(main())


def test_close_waits_for_running_requests_and_ends_idle_ones() -> None:
    async def main() -> None:
        application = Application()
        async with serving(application) as (server, port):
            async with await Client.tcp(port) as idle, await Client.tcp(port) as busy:
                assert (await idle.request("GET", "/")).status == 200
                application.gate.clear()
                running = asyncio.ensure_future(busy.request("GET", "/"))
                await until(lambda: len(application.scopes) == 2)
                closing = asyncio.ensure_future(server.close())
                assert await idle.closed_by_server()
                assert not closing.done()
                application.gate.set()
                assert (await running).headers["connection"] == "close"
                await closing
            with pytest.raises(ConnectionRefusedError):
                await Client.tcp(port)

    run(main())


def test_close_cuts_what_does_not_end_in_time() -> None:
    async def main() -> None:
        application = Application()
        application.gate.clear()
        async with (
            serving(application, shutdown_seconds=0.05) as (server, port),
            await Client.tcp(port) as busy,
        ):
            await busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: application.scopes)
            await server.close()
            assert await busy.closed_by_server()

    run(main())


def test_address_in_use_is_a_config_error_that_says_what_to_do() -> None:
    (taken,) = bind_tcp(Address("127.0.0.1", 0))
    taken.listen()
    try:
        with pytest.raises(ConfigError, match="choose a free port"):
            bind_tcp(Address("127.0.0.1", taken.getsockname()[1]))
    finally:
        taken.close()
    with pytest.raises(ConfigError, match="can't be resolved"):
        bind_tcp(Address("no-such-host.invalid", 1))
