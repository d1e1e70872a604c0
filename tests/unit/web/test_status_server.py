"""What the status port serves, over real sockets."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from node_agent.errors import Unavailable
from node_agent.web.backends import CachedResponse, Health, OcspAnswer
from tests.support.event_loop import run
from tests.support.pki import certificate_pem
from tests.unit.web.http_client import Answer, Client
from tests.unit.web.status_double import MALFORMED, MemoryStatus
from tests.unit.web.status_port import (
    OCSP_TYPE,
    TRY_LATER,
    exchange,
    get_target,
    post,
    status_port,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD = ocsp.OCSPCertStatus.GOOD
INTERNAL_ERROR = bytes.fromhex("30030a0102")


@pytest.mark.parametrize(
    "target",
    ["/", "/ocsp", "/ocsp/", "http://va.example.org", "HTTP://va.example.org:8080/ocsp?x=//y"],
)
def test_post_is_answered_with_the_signed_response(target: str) -> None:
    backend = MemoryStatus()
    answer = exchange(backend, "POST", target, body=backend.request())
    assert answer.status == 200
    assert answer.headers["content-type"] == OCSP_TYPE
    response = ocsp.load_der_ocsp_response(answer.body)
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("prefix", ["/", "/ocsp/", "//", "/ocsp//"])
def test_get_is_answered_under_every_prefix(prefix: str) -> None:
    backend = MemoryStatus()
    answer = exchange(backend, "GET", get_target(backend.request(), prefix))
    assert ocsp.load_der_ocsp_response(answer.body).serial_number == (
        backend.certificate.serial_number
    )


def test_response_carries_the_cache_headers_of_rfc_5019() -> None:
    backend = MemoryStatus()
    request = backend.request()
    for answer in (
        exchange(backend, "GET", get_target(request)),
        exchange(backend, "POST", "/", body=request),
    ):
        control = answer.headers["cache-control"]
        assert {"public", "no-transform", "must-revalidate"} <= set(control.split(", "))
        max_age = int(control.split("max-age=")[1].split(",")[0])
        assert 3500 < max_age <= 3600
        kept = backend.kept[request].answer
        assert answer.headers["etag"] == f'"{kept.etag}"'
        assert _seconds(answer.headers["expires"]) == kept.expires_at
        assert _seconds(answer.headers["last-modified"]) == kept.last_modified
        assert abs(_seconds(answer.headers["date"]) - time.time()) < 3
        assert "s-maxage=1" in control.split(", ")
        # A cache without its VA stops 16 s before clients would.
        assert f"stale-if-error={max_age - 16}" in control.split(", ")
    assert backend.signed == 1


def test_kept_answer_is_served_until_it_is_dropped_and_never_past_its_end() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (_, port), await Client.tcp(port) as client:
            for method, target, body in (
                ("POST", "/", request),
                ("GET", get_target(request), None),
                ("GET", get_target(request), None),
            ):
                await client.request(method, target, body)
            assert backend.signed == 1
            backend.kept.clear()
            await client.request("GET", get_target(request))
            assert backend.signed == 2
            expired = OcspAnswer(der=b"old", expires_at=int(time.time()) - 1, etag="x")
            backend.kept[request] = CachedResponse(expired)
            for method, target, body in (
                ("POST", "/", request),
                ("GET", get_target(request), None),
            ):
                backend.kept[request] = CachedResponse(expired)
                assert (await client.request(method, target, body)).body != b"old"
            assert backend.signed == 4

    run(main())


def test_what_is_remembered_of_paths_is_bounded() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        target = get_target(backend.request()).encode()
        limits = {"kept_path_bytes": len(target), "kept_paths": 2}
        async with status_port(backend, **limits) as (server, port), await Client.tcp(port) as it:
            for query in ("", "?"):
                assert (await it.request("GET", target.decode() + query)).status == 200
            assert list(server.routes.paths) == [target]

    run(main())


def test_a_request_that_comes_again_is_answered_by_what_is_true_by_then() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        data = post(backend.request())
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            for signed in (1, 2):
                for _ in range(3):
                    await client.send(data)
                    assert (await client.receive()).status == 200
                    assert backend.signed == signed
                assert list(server.requests) == [data]
                backend.kept.clear()

    run(main())


@pytest.mark.parametrize(
    "ending", [b"Connection: close\r\n", b"Range: bytes=0-1\r\n", b"X: %s\r\n" % (b"y" * 1024)]
)
def test_what_is_more_than_a_plain_request_is_parsed_each_time(ending: bytes) -> None:
    async def main() -> None:
        backend = MemoryStatus()
        data = post(backend.request()).replace(b"\r\n", b"\r\n" + ending, 1)
        async with status_port(backend) as (server, port):
            for _ in range(3):
                async with await Client.tcp(port) as client:
                    await client.send(data)
                    assert (await client.receive()).status == 200
            assert not server.requests

    run(main())


def test_what_is_remembered_of_requests_is_bounded() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        async with (
            status_port(backend, kept_requests=2) as (server, port),
            await Client.tcp(port) as client,
        ):
            for number in range(7):
                header = b"\r\nX: %d\r\n" % number
                await client.send(post(backend.request()).replace(b"\r\n", header, 1))
                await client.receive()
                assert len(server.requests) <= 2
            assert server.requests

    run(main())


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://va.example.org/health", 200),
        ("http://va.example.org/health/fresh?max_lag_seconds=5", 200),
        ("http://va.example.org", 405),
        ("http://va.example.org?max_lag_seconds=5", 405),
        ("ftp://va.example.org/health", 404),
    ],
)
def test_a_target_may_have_the_absolute_form(target: str, status: int) -> None:
    assert exchange(MemoryStatus(), "GET", target).status == status


def test_an_ocsp_request_in_a_path_may_have_the_absolute_form() -> None:
    backend = MemoryStatus()
    target = f"http://va.example.org{get_target(backend.request())}"
    answer = exchange(backend, "GET", target)
    assert ocsp.load_der_ocsp_response(answer.body).certificate_status is GOOD


class Counting(MemoryStatus):
    """Counts how often was looked for a kept answer."""

    looks = 0

    def cached_response(self, request_der: bytes) -> CachedResponse | None:
        """Count and look."""
        self.looks += 1
        return super().cached_response(request_der)


def test_a_kept_answer_is_looked_for_once_in_a_request_that_is_repeated_later() -> None:
    async def main() -> None:
        backend = Counting()
        request = post(backend.request())
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            for _ in range(2):
                await client.send(request)
                first = await client.receive()
            assert server.requests
            second = server.second
            await until(lambda: server.second != second)
            backend.looks = 0
            await client.send(request)
            again = await client.receive()
            assert backend.looks == 1
            assert again.body == first.body
            assert again.headers["date"] != first.headers["date"]

    run(main())


def test_an_answer_is_in_memory_as_http_for_its_second_alone() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            for _ in range(2):
                await client.request("POST", "/", request)
            (kept,) = backend.kept.values()
            assert kept.wire
            await until(lambda: not kept.wire)
            assert server.wired == []
            assert (await client.request("POST", "/", request)).status == 200

    run(main())


def test_date_and_max_age_move_on_with_the_clock() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        request = backend.request()
        async with status_port(backend) as (server, port), await Client.tcp(port) as client:
            await client.request("POST", "/", request)
            first = await client.request("POST", "/", request)
            second = server.second
            await until(lambda: server.second != second)
            later = await client.request("POST", "/", request)
            assert later.headers["date"] != first.headers["date"]
            assert _max_age(later) < _max_age(first)

    run(main())


def test_nonce_answer_is_fresh_and_not_cacheable() -> None:
    backend = MemoryStatus()
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        backend.certificate, backend.authority.certificate, hashes.SHA1()
    )
    request = builder.add_extension(x509.OCSPNonce(os.urandom(16)), critical=False).build()
    answer = exchange(backend, "POST", "/", body=request.public_bytes(Encoding.DER))
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_conditional_get_of_a_response_the_client_has_is_304() -> None:
    backend = MemoryStatus()
    target = get_target(backend.request())
    etag = exchange(backend, "GET", target).headers["etag"]
    answer = exchange(backend, "GET", target, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"\x30", b"garbage", b"\x30\x80" + bytes(100)])
def test_malformed_ocsp_gets_an_ocsp_answer(body: bytes) -> None:
    answer = exchange(MemoryStatus(), "POST", "/", body=body)
    assert (answer.status, answer.body) == (200, MALFORMED)
    assert answer.headers["cache-control"] == "no-store"
    assert exchange(MemoryStatus(), "GET", "/ocsp/M!!").body == MALFORMED


@pytest.mark.parametrize(
    ("fault", "der"), [(Unavailable("no signer"), TRY_LATER), (KeyError("bug"), INTERNAL_ERROR)]
)
def test_ocsp_that_cannot_be_answered_says_so_in_ocsp(fault: Exception, der: bytes) -> None:
    backend = MemoryStatus()
    backend.fault = fault
    answer = exchange(backend, "POST", "/", body=backend.request())
    assert (answer.status, answer.body) == (200, der)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Unavailable("store ca1", retry_after_seconds=4), 503), (KeyError("bug"), 500)],
)
def test_file_that_cannot_be_served_is_a_problem_without_inner_words(
    fault: Exception, status: int
) -> None:
    backend = MemoryStatus()
    backend.fault = fault
    answer = exchange(backend, "GET", "/crl/issuing.crl")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("retry-after") == ("4" if status == 503 else None)
    assert "detail" not in answer.json


def test_backend_that_hangs_is_answered_for() -> None:
    async def main() -> None:
        backend = MemoryStatus()
        backend.gate.clear()
        async with (
            status_port(backend, answer_seconds=0.05) as (_, port),
            await Client.tcp(port) as client,
        ):
            answer = await client.request("POST", "/", backend.request())
            assert answer.body == TRY_LATER

    run(main())


def test_crl_and_its_delta_and_the_ca_certificate_are_files() -> None:
    backend = MemoryStatus()
    backend.put_crl("issuing", b"delta", delta=True)
    backend.put_crl("x-delta", b"full of x-delta")
    answer = exchange(backend, "GET", "/crl/issuing.crl")
    assert answer.headers["content-type"] == "application/pkix-crl"
    assert x509.load_der_x509_crl(answer.body).get_revoked_certificate_by_serial_number(77)
    assert exchange(backend, "GET", "/crl/issuing-delta.crl").body == b"delta"
    assert exchange(backend, "GET", "/crl/x-delta.crl").body == b"full of x-delta"
    answer = exchange(backend, "GET", "/ca/issuing.cer?x=y")
    assert answer.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(answer.body) == backend.authority.certificate


@pytest.mark.parametrize(
    ("lag", "query", "status"),
    [
        (0.0, "", 200),
        (59.9, "", 200),
        (60.1, "", 503),
        (60.1, "?max_lag_seconds=61", 200),
        (0.5, "?max_lag_seconds=0", 503),
        (None, "", 503),
        (None, "?max_lag_seconds=999999", 503),
        (0.0, "?max_lag_seconds=", 400),
        (0.0, "?max_lag_seconds=-1", 400),
        (0.0, "?max_lag_seconds=1e3", 400),
        (0.0, "?max_lag_seconds=1&max_lag_seconds=2", 400),
        (0.0, "?else=1", 400),
    ],
)
def test_a_stale_va_says_so_to_its_load_balancer(
    lag: float | None, query: str, status: int
) -> None:
    backend = MemoryStatus()
    backend.lag = lag
    answer = exchange(backend, "GET", f"/health/fresh{query}")
    assert answer.status == status
    if status != 400:
        assert answer.json == {"fresh": status == 200, "lag_seconds": lag}
    assert exchange(backend, "POST", "/health/fresh").status in (404, 405)


def test_health_is_503_only_when_failed() -> None:
    backend = MemoryStatus()
    assert exchange(backend, "GET", "/health").json == {"status": "ok"}
    backend.word = Health(status="degraded")
    assert exchange(backend, "GET", "/health").status == 200
    backend.word = Health(status="failed")
    assert exchange(backend, "GET", "/health").status == 503


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/", 405, "POST"),
        ("HEAD", "/ocsp", 405, "POST"),
        ("PUT", "/ocsp", 405, "POST"),
        ("POST", "/crl/issuing.crl", 405, "GET, HEAD"),
        ("DELETE", "/health", 405, "GET, HEAD"),
        ("GET", "/crl/none.crl", 404, None),
        ("GET", "/ca/none.cer", 404, None),
        ("GET", "/crl/issuing.pem", 404, None),
        ("GET", "/nothing", 404, None),
        ("POST", "/nothing", 404, None),
        ("GET", "/crl/../crl/issuing.crl", 404, None),
        ("OPTIONS", "*", 404, None),
    ],
)
def test_other_methods_and_paths_are_problems(
    method: str, target: str, status: int, allow: str | None
) -> None:
    answer = exchange(MemoryStatus(), method, target)
    assert answer.status == status
    assert answer.headers.get("allow") == allow
    if method != "HEAD":
        assert answer.json["status"] == status


def test_head_announces_what_get_would_send() -> None:
    backend = MemoryStatus()
    for target in ("/crl/issuing.crl", get_target(backend.request())):
        whole = exchange(backend, "GET", target)
        head = exchange(backend, "HEAD", target)
        assert head.body == b""
        assert head.headers["content-length"] == str(len(whole.body))
        assert head.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_openssl_accepts_the_answer(tmp_path: Path, method: str) -> None:
    backend = MemoryStatus()
    issuer, certificate, request = (tmp_path / name for name in ("ca", "cert", "request"))
    issuer.write_text(certificate_pem(backend.authority.certificate))
    certificate.write_text(certificate_pem(backend.certificate))
    request.write_bytes(backend.request())

    async def main() -> str:
        async with status_port(backend) as (_, port):
            base = f"http://127.0.0.1:{port}"
            if method == "POST":
                names = ["-issuer", issuer, "-cert", certificate, "-no_nonce"]
                return await _output("openssl", "ocsp", *names, "-CAfile", issuer, "-url", base)
            response = tmp_path / "response"
            url = base + get_target(backend.request())
            await _output("curl", "-sf", "-o", str(response), url)
            given = ["-respin", response, "-issuer", issuer, "-cert", certificate]
            return await _output("openssl", "ocsp", *given, "-CAfile", issuer, "-no_nonce")

    output = run(main())
    assert "Response verify OK" in output
    assert f"{certificate}: good" in output


async def _output(*command: Any) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode()


def _seconds(http_date: str) -> float:
    parsed = datetime.datetime.strptime(http_date, "%a, %d %b %Y %H:%M:%S GMT")
    return parsed.replace(tzinfo=datetime.UTC).timestamp()


def _max_age(answer: Answer) -> int:
    return int(answer.headers["cache-control"].split("max-age=")[1].split(",")[0])
