"""The status port's HTTP: how bytes are cut never matters; ranges and GET paths round-trip."""

from __future__ import annotations

import asyncio
import base64
import itertools
import urllib.parse

from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.web.backends import Download
from node_agent.web.ocsp_path import is_ocsp_path, request_from_path
from node_agent.web.status_answers import download_answer
from tests.unit.web.memory_connection import KEPT_REQUEST, converse, read_answers


def _post(body: bytes) -> bytes:
    return b"POST /ocsp HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


# Each with the answer that it must get.
_REQUESTS = {
    _post(KEPT_REQUEST): (200, b"kept"),
    _post(b"other"): (200, b"made"),
    b"GET /ocsp/" + base64.b64encode(KEPT_REQUEST) + b" HTTP/1.1\r\n\r\n": (200, b"kept"),
    b"GET /crl/issuing.crl HTTP/1.1\r\nRange: bytes=2-4\r\n\r\n": (206, b"234"),
    b'GET /crl/issuing.crl HTTP/1.1\r\nIf-None-Match: "e"\r\n\r\n': (304, b""),
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n": (200, b'{"status":"ok"}'),
}


@given(
    requests=st.lists(st.sampled_from(sorted(_REQUESTS)), max_size=8),
    cuts=st.lists(st.integers(0, 600), max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_answers_are_the_same_however_the_requests_are_cut(
    requests: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(requests)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
    transport = asyncio.run(converse(*chunks))
    assert read_answers(bytes(transport.written)) == [_REQUESTS[item] for item in requests]
    assert not transport.closed


_KEPT = _post(KEPT_REQUEST)
_READS = [*_REQUESTS, _KEPT, _KEPT, _KEPT + _KEPT, _post(b"other") + _KEPT, _KEPT + _post(b"other")]


@given(st.lists(st.sampled_from(_READS), max_size=12))
@settings(max_examples=300, deadline=None)
def test_answers_are_the_same_when_requests_come_whole_and_again(reads: list[bytes]) -> None:
    transport = asyncio.run(converse(*reads))
    one_by_one = asyncio.run(converse(*(bytes([octet]) for octet in b"".join(reads))))
    assert read_answers(bytes(transport.written)) == read_answers(bytes(one_by_one.written))
    assert not transport.closed


@given(st.binary(max_size=400), st.booleans(), st.sampled_from(["", "/", "+", "=", "/+="]))
def test_every_der_comes_back_from_its_path(rest: bytes, padded: bool, unescaped: str) -> None:
    der = b"\x30" + rest
    text = base64.b64encode(der).decode()
    text = text if padded else text.rstrip("=")
    for prefix in ("/", "/ocsp/", "//", "/ocsp//"):
        path = (prefix + urllib.parse.quote(text, safe=unescaped)).encode()
        assert is_ocsp_path(path)
        assert request_from_path(path) == der


@given(st.binary(max_size=300))
def test_any_path_is_decoded_or_none(path: bytes) -> None:
    decoded = request_from_path(b"/" + path)
    assert decoded is None or isinstance(decoded, bytes)


@given(st.binary(max_size=40), st.integers(0, 50), st.none() | st.integers(0, 50))
def test_range_is_what_a_slice_would_be(data: bytes, first: int, last: int | None) -> None:
    download = Download(data=data, content_type="a/b", etag="e", last_modified=0)
    wanted = f"bytes={first}-{'' if last is None else last}".encode()
    answer = download_answer(download, {b"range": wanted}, second=0, max_age_seconds=0)
    expected = data[first:] if last is None else data[first : last + 1]
    if expected:
        assert (answer.status, bytes(answer.body)) == (206, expected)
    else:
        assert (answer.status, bytes(answer.body)) == (416, b"")
