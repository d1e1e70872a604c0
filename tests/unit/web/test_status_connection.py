"""Connections of the status port: their life, and every limit."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from cryptography.x509 import ocsp

from node_agent.config import Address
from node_agent.web.listen import bind_tcp
from node_agent.web.status_server import StatusServer
from tests.support.event_loop import run
from tests.unit.web.http_client import Answer, Client
from tests.unit.web.status_double import MALFORMED, MemoryStatus
from tests.unit.web.status_port import (
    OCSP_TYPE,
    connections,
    post,
    status_port,
    until,
)

pytestmark = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"], indirect=True)


def raw(backend: MemoryStatus, data: bytes, **limits: Any) -> Answer:
    """Send raw bytes to a fresh status port; return the answer, which must end the connection."""

    async def main() -> Answer:
        async with status_port(backend, **limits) as (_, port), await Client.tcp(port) as client:
            await client.send(data)
            answer = await client.receive()
            assert answer.headers["connection"] == "close"
            assert await client.closed_by_server()
            return answer

    return run(main())


# The connection


@pytest.mark.parametrize("kept", [False, True])
def test_requests_may_arrive_byte_by_byte(kept: bool) -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (_, port), await Client.tcp(port) as client:
            if kept:
                await client.request("POST", "/", request)
            head = f"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: {len(request)}\r\n\r\n"
            for byte in head.encode() + request:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.receive()).headers["content-type"] == OCSP_TYPE
            assert backend.signed == 1

    run(main())


def test_pipelined_answers_keep_their_order_across_fast_and_slow_paths() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (_, port), await Client.tcp(port) as client:
            await client.request("POST", "/", request)
            kept = post(request)
            backend.gate.clear()
            unkept = post(request[:-1])
            backend.put_crl("issuing", b"0123456789")
            crl = b"GET /crl/issuing.crl HTTP/1.1\r\nHost: a\r\n\r\n"
            await client.send(kept + crl + kept + unkept + kept + crl)
            backend.gate.set()
            types = [(await client.receive()).headers["content-type"] for _ in range(6)]
            crl_type = "application/pkix-crl"
            assert types == [OCSP_TYPE, crl_type, OCSP_TYPE, OCSP_TYPE, OCSP_TYPE, crl_type]

    run(main())


def test_more_pipelined_requests_than_allowed_end_after_those_taken() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.gate.clear()
        async with (
            status_port(backend, max_pipelined=3) as (_, port),
            await Client.tcp(port) as client,
        ):
            await client.send(post(b"first"))
            await client.send(post(b"more") * 20)
            backend.gate.set()
            answers = 0
            with contextlib.suppress(asyncio.IncompleteReadError):
                while (await client.receive()).body == MALFORMED:
                    answers += 1
            assert 3 <= answers <= 5

    run(main())


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", True),
        (b"GET /health HTTP/1.0\r\n\r\n", True),
        (b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", True),
        (b"GET /health HTTP/1.1\r\n\r\n", False),
    ],
)
def test_connection_stays_open_only_where_the_client_can_know_it(head: bytes, closes: bool) -> None:
    async def main() -> None:
        async with status_port(MemoryStatus()) as (_, port), await Client.tcp(port) as client:
            await client.send(head)
            answer = await client.receive()
            assert answer.status == 200
            assert (answer.headers.get("connection") == "close") is closes
            if closes:
                assert await client.closed_by_server()
            else:
                assert (await client.request("GET", "/health")).status == 200

    run(main())


def test_kept_answer_for_a_client_that_closes_says_close() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (_, port):
            async with await Client.tcp(port) as client:
                await client.request("POST", "/", request)
            async with await Client.tcp(port) as client:
                answer = await client.request("POST", "/", request, headers={"Connection": "close"})
                assert answer.headers["connection"] == "close"
                assert ocsp.load_der_ocsp_response(answer.body)
                assert await client.closed_by_server()
            assert backend.signed == 1

    run(main())


def test_expect_continue_is_answered_before_the_body() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (_, port), await Client.tcp(port) as client:
            head = f"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(request)}"
            await client.send(head.encode() + b"\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(request)
            assert (await client.receive()).status == 200

    run(main())


# Limits


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + bytes(9000), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\n" + bytes(0x3000), 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X-Filler: abcdefghij\r\n" * 500 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 9000, 431),
    ],
)
def test_oversize_and_malformed_requests_end_the_connection(data: bytes, status: int) -> None:
    assert raw(MemoryStatus(), data).status == status


def test_declared_oversize_body_is_refused_before_it_is_sent() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n"
    assert raw(MemoryStatus(), head).status == 413


def test_slow_headers_end_with_408() -> None:
    assert raw(MemoryStatus(), b"GET / HT", request_seconds=0.1).status == 408


def test_slow_body_ends_with_408() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"
    assert raw(MemoryStatus(), head, request_seconds=0.1).status == 408


def test_slowly_dripping_request_gets_no_more_time() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        async with (
            status_port(backend, request_seconds=0.5) as (_, port),
            await Client.tcp(port) as client,
        ):
            receiving = asyncio.ensure_future(client.receive())
            await client.send(b"GET /health HTTP/1.1\r\n")
            while not receiving.done():
                with contextlib.suppress(ConnectionError):
                    await client.send(b"X: y\r\n")
                await asyncio.sleep(0.05)
            assert (await receiving).status == 408

    run(main())


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\n\r\n"])
def test_idle_connection_is_closed(first: bytes) -> None:
    async def main() -> None:
        async with (
            status_port(MemoryStatus(), request_seconds=0.2, idle_seconds=0.1) as (_, port),
            await Client.tcp(port) as client,
        ):
            if first:
                await client.send(first)
                assert (await client.receive()).status == 200
            assert await client.closed_by_server()

    run(main())


def test_client_that_does_not_read_is_cut_off() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.put_crl("issuing", bytes(32 * 1024 * 1024))
        async with status_port(backend, stall_seconds=0.2) as (server, port):
            client = await Client.tcp(port)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(b"GET /crl/issuing.crl HTTP/1.1\r\n\r\n")
            await connections(server, 1)
            await connections(server, 0)
            async with asyncio.timeout(5):
                while server.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            client.writer.transport.abort()

    run(main())


def test_connections_beyond_the_limit_are_turned_away() -> None:
    async def main() -> None:
        async with status_port(MemoryStatus(), max_connections=1) as (server, port):
            async with await Client.tcp(port) as first:
                assert (await first.request("GET", "/health")).status == 200
                async with await Client.tcp(port) as second:
                    assert await second.closed_by_server()
                assert (await first.request("GET", "/health")).status == 200
            await connections(server, 0)
            async with await Client.tcp(port) as third:
                assert (await third.request("GET", "/health")).status == 200

    run(main())


def test_close_lets_a_running_answer_leave() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.gate.clear()
        async with (
            status_port(backend) as (server, port),
            await Client.tcp(port) as client,
            await Client.tcp(port) as idle,
        ):
            assert (await idle.request("GET", "/health")).status == 200
            await client.send(post(b"anything"))
            await until(lambda: server.tasks)
            closing = asyncio.ensure_future(server.close())
            assert await idle.closed_by_server()
            backend.gate.set()
            answer = await client.receive()
            assert answer.body == MALFORMED
            assert answer.headers["connection"] == "close"
            await closing

    run(main())


def test_client_that_leaves_early_cancels_its_work() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.gate.clear()
        async with status_port(backend) as (server, port):
            async with await Client.tcp(port) as client:
                await client.send(post(b"anything"))
                await until(lambda: server.tasks)
            await connections(server, 0)
            await until(lambda: not server.tasks)

    run(main())


def test_close_cuts_an_answer_that_does_not_come() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.gate.clear()
        async with (
            status_port(backend, shutdown_seconds=0.05) as (server, port),
            await Client.tcp(port) as client,
        ):
            await client.send(post(b"anything"))
            await until(lambda: server.tasks)
            await server.close()
            assert await client.closed_by_server()
            assert not server.tasks

    run(main())


def test_bug_in_the_cache_is_500_and_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryStatus()

    def broken(request_der: bytes) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(backend, "cached_response", broken)
    answer = raw(backend, post(b"anything"))
    assert answer.status == 500
    assert b"secret" not in answer.body


def test_port_is_served_on_ipv6() -> None:
    async def main() -> None:
        sockets = bind_tcp(Address("::1", 0))
        async with StatusServer(MemoryStatus(), sockets) as server:
            reader, writer = await asyncio.open_connection("::1", server.addresses[0][1])
            async with Client(reader, writer) as client:
                assert (await client.request("GET", "/health")).status == 200

    run(main())


def test_two_servers_share_a_port() -> None:
    async def main() -> None:
        first = bind_tcp(Address("127.0.0.1", 0), reuse_port=True)
        port = first[0].getsockname()[1]
        second = bind_tcp(Address("127.0.0.1", port), reuse_port=True)
        async with (
            StatusServer(MemoryStatus(), first),
            StatusServer(MemoryStatus(), second),
            await Client.tcp(port) as client,
        ):
            assert (await client.request("GET", "/health")).status == 200

    run(main())
