"""A status connection without a socket: bytes in, bytes out; for properties and fuzzing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools

from node_agent.web.backends import (
    CachedResponse,
    Download,
    FoundCertificates,
    Health,
    OcspAnswer,
)
from node_agent.web.status_connection import StatusConnection
from node_agent.web.status_server import StatusServer

if TYPE_CHECKING:
    from node_agent.web.certificate_search import SearchKey

__all__ = [
    "KEPT_REQUEST",
    "FixedRetrieval",
    "FixedStatus",
    "MemoryTransport",
    "converse",
    "read_answers",
]

KEPT_REQUEST = b"0\x03abc"
_FAR = 4_000_000_000


class FixedStatus:
    """A StatusBackend with one kept answer, one CRL, and the same answer to everything else."""

    def __init__(self) -> None:
        self.kept = CachedResponse(OcspAnswer(der=b"kept", expires_at=_FAR, etag="kept"))

    def cached_response(self, request_der: bytes) -> CachedResponse | None:
        return self.kept if request_der == KEPT_REQUEST else None

    async def ocsp_response(self, request_der: bytes) -> OcspAnswer:
        await asyncio.sleep(0)
        return OcspAnswer(der=b"made")

    async def crl(self, authority: str, delta: bool, shard: int = 0) -> Download | None:
        if (authority, delta) != ("issuing", False):
            return None
        return Download(data=b"0123456789", content_type="a/b", etag="e", last_modified=1)

    async def issuer_certificate(self, authority: str) -> Download | None:
        return None

    @property
    def retrieval(self) -> FixedRetrieval:
        return FixedRetrieval()

    def lag_seconds(self) -> float | None:
        return 0.0

    def health(self) -> Health:
        return Health(status="ok")


class FixedRetrieval:
    """A RetrievalBackend that finds two CA certificates whatever is asked, and nothing else."""

    async def certificates(self, key: SearchKey) -> FoundCertificates:
        return FoundCertificates((b"first", b"second"), 1)

    async def crl_issuer(self, key: SearchKey) -> str | None:
        return "issuing"

    async def issuer_chain(self, authority: str) -> Download | None:
        return None

    async def certificate(self, authority: str, serial: int) -> Download | None:
        return None


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; never pauses the writer."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed, "written behind the end"
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


async def converse(*chunks: bytes) -> MemoryTransport:
    """Feed ``chunks`` to a fresh connection; return its transport when nothing is left to do."""
    server = StatusServer(FixedStatus(), [])
    server.second = 1_800_000_000
    connection, transport = StatusConnection(server), MemoryTransport()
    connection.connection_made(transport)
    for chunk in chunks:
        if not transport.closed:
            connection.data_received(chunk)
    if server.tasks:
        await asyncio.wait(set(server.tasks), timeout=10)
    assert not server.tasks, "a task is left"
    connection.connection_lost(None)
    assert not server.connections
    return transport


def read_answers(written: bytes) -> list[tuple[int, bytes]]:
    """Return status and body of each answer. Raises HttpParserError for anything else."""
    reader = _AnswerReader()
    parser = httptools.HttpResponseParser(reader)
    reader.parser = parser
    if written:
        parser.feed_data(written)
    assert reader.is_whole, "the last answer is cut"
    return reader.answers


class _AnswerReader:
    parser: httptools.HttpResponseParser

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.is_whole = True
        self._body = b""

    def on_message_begin(self) -> None:
        self.is_whole = False
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.is_whole = True
        self.answers.append((self.parser.get_status_code(), self._body))
