"""Conditional, partial and large downloads from the status port."""

from __future__ import annotations

import dataclasses
import datetime
import os
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import NotFound
from tests.support.event_loop import run
from tests.unit.web.http_client import Client
from tests.unit.web.status_double import MemoryStatus
from tests.unit.web.status_port import (
    connections,
    exchange,
    status_port,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def test_crl_the_client_has_is_not_sent_again() -> None:
    backend = MemoryStatus()
    download = backend.crls["issuing", False]
    dates = {
        "If-None-Match": f'"{download.etag}"',
        "If-Modified-Since": _http_date(download.last_modified),
    }
    for name, value in dates.items():
        answer = exchange(backend, "GET", "/crl/issuing.crl", headers={name: value})
        assert (answer.status, answer.body) == (304, b"")
    stale = {
        "If-None-Match": '"other"',
        "If-Modified-Since": _http_date(download.last_modified + 3600),
    }
    assert exchange(backend, "GET", "/crl/issuing.crl", headers=stale).status == 200
    old = {"If-Modified-Since": _http_date(download.last_modified - 1)}
    assert exchange(backend, "GET", "/crl/issuing.crl", headers=old).status == 200
    nonsense = {"If-Modified-Since": "yesterday"}
    assert exchange(backend, "GET", "/crl/issuing.crl", headers=nonsense).status == 200


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=5-4", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
def test_one_byte_range_is_served(
    wanted: str, status: int, body: bytes, content_range: str | None
) -> None:
    backend = MemoryStatus()
    backend.put_crl("issuing", b"0123456789")
    answer = exchange(backend, "GET", "/crl/issuing.crl", headers={"Range": wanted})
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("content-range") == content_range


def test_range_of_another_version_sends_the_whole_file() -> None:
    backend = MemoryStatus()
    download = backend.put_crl("issuing", b"0123456789")
    for condition, status in (
        (f'"{download.etag}"', 206),
        (_http_date(download.last_modified), 206),
        ('"older"', 200),
        (_http_date(download.last_modified - 5), 200),
    ):
        headers = {"Range": "bytes=0-3", "If-Range": condition}
        answer = exchange(backend, "GET", "/crl/issuing.crl", headers=headers)
        assert answer.status == status


def test_large_crl_is_streamed_no_faster_than_it_is_read() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        data = os.urandom(1024) * 16 * 1024
        backend.put_crl("issuing", data)
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            await client.send(b"GET /crl/issuing.crl HTTP/1.1\r\nHost: a\r\n\r\n")
            (connection,) = await connections(server, 1)
            transport = connection._transport
            assert transport is not None
            most = 0
            block = await client.reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: 16777216" in block
            received = bytearray()
            while len(received) < len(data):
                most = max(most, transport.get_write_buffer_size())
                received += await client.reader.read(32 * 1024)
            assert received == data
            assert most <= 4 * 64 * 1024
            answer = await client.request("GET", "/health")
            assert answer.status == 200

    run(main())


def _http_date(second: float) -> str:
    moment = datetime.datetime.fromtimestamp(second, tz=datetime.UTC)
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_a_long_file_is_read_as_it_is_sent() -> None:
    """From a source that yields pieces: whole, in part, by condition, and by its head alone."""
    whole = os.urandom(1_000_000)
    read_from: list[int] = []

    async def read(offset: int) -> AsyncIterator[bytes]:
        read_from.append(offset)
        for start in range(offset, len(whole), 70_000):
            yield whole[start : start + 70_000]

    backend = MemoryStatus()
    short = backend.crls["issuing", False]
    backend.crls["issuing", False] = dataclasses.replace(
        short, data=b"", octets=len(whole), read=read
    )
    target = "/crl/issuing.crl"
    answer = exchange(backend, "GET", target)
    assert (answer.status, answer.body) == (200, whole)
    answer = exchange(backend, "GET", target, headers={"Range": "bytes=500000-700001"})
    assert (answer.status, answer.body) == (206, whole[500_000:700_002])
    assert answer.headers["content-range"] == "bytes 500000-700001/1000000"
    assert exchange(backend, "GET", target, headers={"Range": "bytes=1000000-"}).status == 416
    known = {"If-None-Match": f'"{short.etag}"'}
    assert exchange(backend, "GET", target, headers=known).status == 304
    assert read_from == [0, 500_000]


def test_a_long_file_that_is_replaced_meanwhile_is_cut_off() -> None:
    async def read(offset: int) -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise NotFound("replaced")

    async def main() -> None:
        backend = MemoryStatus()
        backend.crls["issuing", False] = dataclasses.replace(
            backend.crls["issuing", False], data=b"", octets=500_000, read=read
        )
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            with pytest.raises((EOFError, ConnectionError)):
                await client.request("GET", "/crl/issuing.crl")
            assert not server.connections

    run(main())
