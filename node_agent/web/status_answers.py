"""HTTP answers of the status port as bytes: pure functions of what is served and of the time.

Caching follows RFC 5019 section 6.2 for OCSP. CRLs and CA certificates are files: ETag,
Last-Modified, conditional requests (RFC 9110 section 13) and single byte ranges (section 14).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from node_agent.web.problems import PROBLEM_MEDIA_TYPE, refuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from node_agent.web.backends import CachedResponse, Download, OcspAnswer

__all__ = [
    "INTERNAL_ERROR",
    "MALFORMED_REQUEST",
    "TRY_LATER",
    "Answer",
    "Pieces",
    "download_answer",
    "ocsp_answer",
    "ocsp_wire",
    "plain_answer",
    "problem_answer",
]

# OCSPResponse with responseStatus alone (RFC 6960 section 4.2.1): these are never signed.
MALFORMED_REQUEST = bytes.fromhex("30030a0101")
INTERNAL_ERROR = bytes.fromhex("30030a0102")
TRY_LATER = bytes.fromhex("30030a0103")

# A cache between the VA and clients asks again each second (RFC 9111 section 5.2.2.10), so that a
# revocation is seen through it; while the VA is away it may go on (RFC 5861 section 4), yet never
# past the answer's end: what it may spend on the way counts.
_SHARED_SECONDS = 1
_ON_THE_WAY_SECONDS = 15

_OCSP_TYPE = b"application/ocsp-response"
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})\Z")
_REASON = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_EMPTY = memoryview(b"")
# RFC 8246: what never changes need not be asked for again; a year is as long as caches go.
_IMMUTABLE_SECONDS = 365 * 86400


@dataclass(frozen=True, slots=True)
class Pieces:
    """So many octets of a file from ``first`` on, read when they are sent."""

    read: Callable[[int], AsyncIterator[bytes]]
    first: int
    octets: int

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Yield them. Raises what the file's own ``read`` raises."""
        left = self.octets
        async for piece in self.read(self.first):
            yield memoryview(piece)[:left]
            left -= len(piece)
            if left <= 0:
                return


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, header lines (each with CRLF) and body; a long body comes in ``pieces``."""

    status: int
    headers: bytes
    body: memoryview = _EMPTY
    pieces: Pieces | None = None

    def head(self, *, second: int, keep_alive: bool) -> bytes:
        """Return status line and headers, Date and Content-Length included."""
        # RFC 9110 section 8.6: a 304 may only carry the length of the 200 it stands for.
        is_bare = self.status == HTTPStatus.NOT_MODIFIED
        return b"HTTP/1.1 %d %b\r\nDate: %b\r\n%b%b%b\r\n" % (
            self.status,
            _REASON[self.status],
            http_date(second),
            self.headers,
            b"" if is_bare else b"Content-Length: %d\r\n" % self.octets,
            b"" if keep_alive else b"Connection: close\r\n",
        )

    @property
    def octets(self) -> int:
        """How long the body is."""
        return len(self.body) if self.pieces is None else self.pieces.octets

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return this answer with more headers."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return Answer(self.status, self.headers + lines.encode("latin-1"), self.body)


@functools.lru_cache(maxsize=4096)
def http_date(second: int) -> bytes:
    """Return ``second`` (since the epoch) as an HTTP date."""
    return formatdate(second, usegmt=True).encode("ascii")


def ocsp_answer(answer: OcspAnswer, *, second: int, if_none_match: str | None = None) -> Answer:
    """Return an OCSP response with the headers of RFC 5019, or 304 where the client has it."""
    if answer.expires_at is None or answer.expires_at <= second:
        return Answer(
            HTTPStatus.OK,
            b"Content-Type: %b\r\nCache-Control: no-store\r\n" % _OCSP_TYPE,
            memoryview(answer.der),
        )
    left = answer.expires_at - second
    headers = b'%bETag: "%b"\r\nLast-Modified: %b\r\nExpires: %b\r\n' % (
        _cache_control(left, left),
        answer.etag.encode("ascii"),
        http_date(answer.last_modified),
        http_date(answer.expires_at),
    )
    if if_none_match is not None and _etag_matches(if_none_match, answer.etag):
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    typed = b"Content-Type: %b\r\n%b" % (_OCSP_TYPE, headers)
    return Answer(HTTPStatus.OK, typed, memoryview(answer.der))


def ocsp_wire(cached: CachedResponse, second: int) -> bytes:
    """Return the whole HTTP message of a kept answer, made anew once a second at most."""
    if cached.wire_second != second:
        answer = ocsp_answer(cached.answer, second=second)
        cached.wire = answer.head(second=second, keep_alive=True) + cached.answer.der
        cached.wire_second = second
    return cached.wire


def download_answer(
    download: Download,
    request_headers: Mapping[bytes, bytes],
    *,
    second: int,
    max_age_seconds: int,
) -> Answer:
    """Return a file, the part of it that was asked for, or 304 where the client has it.

    ``request_headers`` has lower-case names.
    """
    headers = _download_headers(download, second, max_age_seconds)
    if _is_unchanged(download, request_headers):
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    headers += b"Content-Type: %b\r\n" % download.content_type.encode("ascii")
    match = _wanted_range(download, request_headers)
    if match is None:
        return _part(HTTPStatus.OK, headers, download, 0, download.size)
    bounds = _bounds(match, download.size)
    if bounds is None:
        limit = b"Content-Range: bytes */%d\r\n" % download.size
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, limit)
    first, last = bounds
    headers += b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, download.size)
    return _part(HTTPStatus.PARTIAL_CONTENT, headers, download, first, last + 1)


def plain_answer(body: bytes, *, content_type: bytes, status: int = 200) -> Answer:
    """Return an answer that no cache keeps."""
    headers = b"Content-Type: %b\r\nCache-Control: no-store\r\n" % content_type
    return Answer(status, headers, memoryview(body))


def problem_answer(status: HTTPStatus, code: str, detail: str, *, allow: bytes = b"") -> Answer:
    """Return a problem document (RFC 9457); ``allow`` lists the methods of a 405."""
    body = refuse(status, code, detail).answer.body
    answer = plain_answer(body, content_type=PROBLEM_MEDIA_TYPE, status=status.value)
    return answer.with_headers({"Allow": allow.decode("ascii")}) if allow else answer


def _part(status: int, headers: bytes, download: Download, start: int, end: int) -> Answer:
    if download.read is None:
        return Answer(status, headers, memoryview(download.data)[start:end])
    return Answer(status, headers, pieces=Pieces(download.read, start, end - start))


def _download_headers(download: Download, second: int, max_age_seconds: int) -> bytes:
    left = max_age_seconds
    if download.expires_at is not None:
        left = max(0, download.expires_at - second)
    fresh = min(max_age_seconds, left)
    control = _cache_control(fresh, left)
    if download.is_immutable:
        fresh = _IMMUTABLE_SECONDS
        control = b"Cache-Control: max-age=%d, public, no-transform, immutable\r\n" % fresh
    return (b'%bETag: "%b"\r\nLast-Modified: %b\r\nExpires: %b\r\nAccept-Ranges: bytes\r\n') % (
        control,
        download.etag.encode("ascii"),
        http_date(download.last_modified),
        http_date(second + fresh),
    )


def _cache_control(fresh_seconds: int, left_seconds: int) -> bytes:
    """Say how long an answer may be kept: by clients, by shared caches, and by those in need."""
    return (
        b"Cache-Control: max-age=%d, s-maxage=%d, stale-if-error=%d, "
        b"public, no-transform, must-revalidate\r\n"
    ) % (
        fresh_seconds,
        min(_SHARED_SECONDS, fresh_seconds),
        max(0, left_seconds - _SHARED_SECONDS - _ON_THE_WAY_SECONDS),
    )


def _is_unchanged(download: Download, headers: Mapping[bytes, bytes]) -> bool:
    """RFC 9110 section 13.2.2: If-None-Match decides alone where it is given."""
    tags = headers.get(b"if-none-match")
    if tags is not None:
        return _etag_matches(tags.decode("latin-1"), download.etag)
    since = _timestamp(headers.get(b"if-modified-since"))
    return since is not None and download.last_modified <= since


def _etag_matches(given: str, etag: str) -> bool:
    if given.strip() == "*":
        return True
    tags = (item.strip().removeprefix("W/") for item in given.split(","))
    return f'"{etag}"' in tags


def _wanted_range(download: Download, headers: Mapping[bytes, bytes]) -> re.Match[str] | None:
    """Return the one range to serve; several ranges, or another unit, mean the whole file."""
    wanted = headers.get(b"range")
    if wanted is None:
        return None
    condition = headers.get(b"if-range")
    if condition is not None and not _is_same(download, condition.decode("latin-1").strip()):
        return None
    match = _RANGE.match(wanted.decode("latin-1").replace(" ", ""))
    return match if match is not None and (match[1] or match[2]) else None


def _is_same(download: Download, condition: str) -> bool:
    if condition.startswith('"'):
        return condition == f'"{download.etag}"'
    return _timestamp(condition.encode("latin-1")) == download.last_modified


def _bounds(match: re.Match[str], size: int) -> tuple[int, int] | None:
    """Return first and last byte (RFC 9110 section 14.1.2), None when it can't be satisfied."""
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size - 1) if length else None
    first = int(match[1])
    last = min(int(match[2]) if match[2] else size - 1, size - 1)
    return (first, last) if first <= last else None


def _timestamp(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return None
