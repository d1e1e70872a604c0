"""One connection of the status port: bytes to requests, answers to bytes, and every limit.

Parsing and answering are synchronous as long as answers are kept ready. The first request that
isn't starts the connection's task; until that has answered it and whatever was queued behind it,
later requests of the connection wait in the queue, so answers keep their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools
import structlog

from node_agent.errors import NodeAgentError
from node_agent.web.status_answers import ocsp_answer, ocsp_wire, problem_answer
from node_agent.web.status_routes import OCSP_TARGETS, StatusRequest

if TYPE_CHECKING:
    from node_agent.web.backends import CachedResponse
    from node_agent.web.status_answers import Answer, Pieces
    from node_agent.web.status_server import StatusServer

__all__ = ["StatusConnection"]

_log = structlog.get_logger(__name__)
_KEPT_HEADERS = frozenset(
    {b"if-none-match", b"if-modified-since", b"range", b"if-range", b"expect"}
)
_NO_HEADERS: dict[bytes, bytes] = {}
_CHUNK_BYTES = 64 * 1024  # asyncio's default high-water mark

_BAD_HTTP = problem_answer(HTTPStatus.BAD_REQUEST, "bad-http", "this is no HTTP request")
_BUG = problem_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "")
_SLOW = problem_answer(
    HTTPStatus.REQUEST_TIMEOUT, "slow-request", "the request did not arrive in time"
)
_LARGE_HEADERS = problem_answer(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "the headers are too large"
)
_LARGE_BODY = problem_answer(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "the request body is too large"
)
_TOO_MANY = problem_answer(
    HTTPStatus.TOO_MANY_REQUESTS, "too-many-pipelined", "wait for answers before asking more"
)


class _Stop(Exception):
    """Leaves the parser from within a callback: the connection ends with ``answer``."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class StatusConnection(asyncio.Protocol):
    """A client's connection; also the parser's callbacks."""

    def __init__(self, server: StatusServer) -> None:
        self.deadline = server.now + server.settings.request_seconds
        """Loop time at which the server's sweep calls ``expire``."""
        self._server = server
        self._settings = server.settings
        self._cached_response = server.cached_response
        self._paths = server.routes.paths
        self._requests = server.requests
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._method = b""
        self._headers = _NO_HEADERS
        self._header_bytes = 0
        self._in_message = False
        self._in_headers = False
        self._was_cut = False
        self._is_last = False
        # What was answered at once in the read that is being parsed: how much, and to what last.
        self._answered = 0
        self._ocsp_request = b""
        self._queue: deque[StatusRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_draining = False
        self._writable = asyncio.Event()
        self._writable.set()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection while there is room."""
        self._transport = transport  # type: ignore[assignment]  # a TCP transport is one
        if len(self._server.connections) >= self._settings.max_connections:
            self.abort()
        else:
            self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what was still to be answered."""
        self._transport = None
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
        self._server.left(self)

    def pause_writing(self) -> None:
        """Take no more from a client that doesn't read, and give it a time to go on."""
        self._writable.clear()
        self.deadline = self._server.now + self._settings.stall_seconds
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()
        self.deadline = self._server.now + self._settings.idle_seconds
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def expire(self) -> None:
        """End the connection: it was idle, too slow to ask, or too slow to read."""
        if not self._writable.is_set():
            self.abort()
        elif self._task is None:
            if self._in_message:
                self._end(_SLOW)
            else:
                self._close()

    def finish(self) -> None:
        """Close as soon as nothing is left to be answered."""
        self._is_draining = True
        if self._task is None:
            self._close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end(self, answer: Answer) -> None:
        """Answer and close; behind requests that wait for their answers, just close after them."""
        self._is_draining = True
        if self._transport is not None and self._task is None:
            head = answer.head(second=self._server.second, keep_alive=False)
            self._transport.write(head + answer.body)
            self._transport.close()

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Answer what was asked in these very words before, or parse them."""
        if self._is_draining:
            return
        is_between = not self._in_message and self._task is None
        if is_between and self._has_repeated(data):
            return
        self._answered = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.finish()  # it was answered as plain HTTP (RFC 9110 section 7.8)
            return
        except httptools.HttpParserError as error:
            self._end(_fault(error))
            return
        if self._in_message:
            self._note_cut(len(data))
        else:
            self._was_cut = False
            self.deadline = self._server.now + self._settings.idle_seconds
            if is_between and self._answered == 1 and self._task is None:
                self._remember(data)

    def _has_repeated(self, data: bytes) -> bool:
        """Answer a request whose bytes were parsed before, if there is a valid answer.

        Between two messages the parser is always in the same state, so that the same bytes are the
        same request: one that leaves its connection open. Nearly all clients of a kind write alike.
        """
        der = self._requests.get(data)
        cached = None if der is None else self._cached_response(der)
        if cached is None:
            return False
        second = self._server.second
        if cached.wire_second != second:
            if (cached.answer.expires_at or 0) <= second:
                return False
            self._server.wired.append(cached)
        self._write(ocsp_wire(cached, second))
        self.deadline = self._server.now + self._settings.idle_seconds
        return True

    def _remember(self, data: bytes) -> None:
        """Keep the bytes of what was just answered, if they are one whole request and no more."""
        end = self._body or b"\r\n\r\n"
        if len(data) <= self._settings.kept_request_bytes and data.endswith(end):
            if len(self._requests) >= self._settings.kept_requests:
                self._requests.clear()  # as with paths
            self._requests[data] = self._ocsp_request

    def _note_cut(self, size: int) -> None:
        """A request goes on in the next read: it gets a deadline, and its headers a limit.

        The parser reports a header only once it is whole, so bytes are counted here as well.
        """
        if not self._was_cut:
            self._was_cut = True
            self.deadline = self._server.now + self._settings.request_seconds
        if self._in_headers:
            self._header_bytes += size
            if self._header_bytes > self._settings.header_bytes:
                self._end(_LARGE_HEADERS)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._in_message = self._in_headers = True
        self._url = self._body = b""
        self._headers = _NO_HEADERS
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take the target, which may come in parts."""
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, and keep the few that change an answer."""
        self._header_bytes += len(name) + len(value)
        name = name.lower()
        if name in _KEPT_HEADERS:
            if self._headers is _NO_HEADERS:
                self._headers = {}
            self._headers[name] = value
        elif name == b"content-length" and self._is_too_much(value):
            raise _Stop(_LARGE_BODY)  # now, or the client would send it all first

    def _is_too_much(self, content_length: bytes) -> bool:
        # What isn't digits, the parser refuses.
        return content_length.isdigit() and int(content_length[:20]) > self._settings.body_bytes

    def on_headers_complete(self) -> None:
        """Check sizes before anything of the body is taken."""
        self._in_headers = False
        if self._header_bytes + len(self._url) > self._settings.header_bytes:
            raise _Stop(_LARGE_HEADERS)
        if not self._url.startswith(b"/"):
            self._url = _origin_form(self._url)
        parser = self._parser
        self._method = parser.get_method()
        self._is_last = (
            not parser.should_keep_alive()
            or parser.get_http_version() == "1.0"
            or parser.should_upgrade()
        )
        if self._headers is not _NO_HEADERS:
            expected = self._headers.pop(b"expect", b"")
            if expected.lower() == b"100-continue" and self._task is None:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body up to its limit."""
        self._body = self._body + body if self._body else body
        if len(self._body) > self._settings.body_bytes:
            raise _Stop(_LARGE_BODY)

    def on_message_complete(self) -> None:
        """Answer from the cache at once, or leave the request to the connection's task."""
        self._in_message = False
        if self._task is None and not self._headers:
            cached = self._cached()
            if cached is not None:
                self._answer_at_once(cached)
                return
        if len(self._queue) >= self._settings.max_pipelined:
            raise _Stop(_TOO_MANY)
        self._queue.append(
            StatusRequest(self._method, self._url, self._headers, self._body, self._is_last)
        )
        if self._task is None:
            self._start_task()

    # Answers out

    def _cached(self) -> CachedResponse | None:
        """Return the kept answer to the request just parsed, if there is a valid one."""
        der: bytes | None
        if self._method == b"GET":
            der = self._paths.get(self._url)
        elif self._method == b"POST" and self._url in OCSP_TARGETS:
            der = self._body
        else:
            return None
        if der is None:
            return None
        self._ocsp_request = der
        cached = self._cached_response(der)
        second = self._server.second
        if cached is None or cached.wire_second == second:
            return cached
        return cached if (cached.answer.expires_at or 0) > second else None

    def _answer_at_once(self, cached: CachedResponse) -> None:
        second = self._server.second
        if not self._is_last:
            self._answered += 1
            if cached.wire_second != second:
                self._server.wired.append(cached)
            self._write(ocsp_wire(cached, second))
        else:
            self._end(ocsp_answer(cached.answer, second=second))

    def _write(self, data: bytes | memoryview) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _start_task(self) -> None:
        task = asyncio.get_running_loop().create_task(self._serve_queue())
        self._task = task
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _serve_queue(self) -> None:
        """Answer what is queued, in order; the connection's only task."""
        while self._queue:
            request = self._queue.popleft()
            answer = await self._server.routes.answer(request, self._server.second)
            if request.is_last:
                self._is_draining = True
                self._queue.clear()
            await self._send(request, answer)
        self._task = None
        if self._is_draining:
            self._close()
        else:
            self.deadline = self._server.now + self._settings.idle_seconds

    async def _send(self, request: StatusRequest, answer: Answer) -> None:
        is_final = self._is_draining and not self._queue
        head = answer.head(second=self._server.second, keep_alive=not is_final)
        if request.method == b"HEAD":
            self._write(head)
        elif answer.pieces is not None:
            await self._send_pieces(head, answer.pieces)
        elif len(answer.body) <= _CHUNK_BYTES:
            self._write(head + answer.body)
        else:
            self._write(head)
            for start in range(0, len(answer.body), _CHUNK_BYTES):
                await self._writable.wait()  # the sweep ends a client that stalls
                self._write(answer.body[start : start + _CHUNK_BYTES])
        await self._writable.wait()

    async def _send_pieces(self, head: bytes, pieces: Pieces) -> None:
        """Send a long file no faster than the client reads; one that ends early is cut off."""
        self._write(head)
        try:
            async for piece in pieces:
                for start in range(0, len(piece), _CHUNK_BYTES):
                    await self._writable.wait()
                    self._write(piece[start : start + _CHUNK_BYTES])
        except NodeAgentError as error:
            _log.warning("download cut off", reason=str(error))
            self.abort()


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a target in absolute form, which RFC 9112 section 3.2.2 obliges
    us to take; other targets as they are. The host doesn't matter here.
    """
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https"):
        return target
    end = next((at for at, octet in enumerate(rest) if octet in b"/?"), len(rest))
    return rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:]


def _fault(error: httptools.HttpParserError) -> Answer:
    cause = error.__context__
    if isinstance(cause, _Stop):
        return cause.answer
    if isinstance(error, httptools.HttpParserCallbackError):
        _log.error("status request failed", exc_info=cause or error)
        return _BUG
    return _BAD_HTTP
