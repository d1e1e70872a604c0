"""The role status_cache in front of a real VA: what it keeps, how long, and what it never does."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPRequestBuilder, load_der_ocsp_response

from tests.support.agents import Topology
from tests.support.openssl import make_csr
from tests.support.processes import wait_until
from tests.support.rest import http_request
from tests.support.status_cache import running_status_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

# nginx counts whole seconds: what is good for one may be two old.
SEEN_SECONDS = 2.0
# Short, so that a test sees the end; most of it is the VA's reserve for the way.
VALIDITY_SECONDS = 22
HIT, STALE = "peersys; hit", "peersys; hit; detail=stale"


@dataclass
class Front:
    """A topology with a cache in front of its VA."""

    topology: Topology
    cache: str
    directory: Path

    def issue(self, name: str) -> tuple[dict[str, Any], bytes]:
        """Return a certificate that the VA knows, and the OCSP request for it."""
        issued = self.topology.rest().enroll(make_csr(self.directory, f"{name}.example.org"))[1]
        path = "/v1/objects/certification_authorities/issuing"
        state = self.topology.ca.admin.get(path)["state"]
        certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
        issuer = x509.load_pem_x509_certificate(state["certificate"].encode())
        builder = OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())
        request = builder.build().public_bytes(Encoding.DER)
        va = self.topology.va.listen["status"]
        wait_until(lambda: self.status(request, va) is OCSPCertStatus.GOOD, what="the VA knows it")
        return issued, request

    def ask(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Ask the cache."""
        return http_request(self.cache, method, path, **more)

    def ocsp(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Ask the cache by POST."""
        return self.ask("POST", "/ocsp", body=request, headers=OCSP_TYPE)

    def status(self, request: bytes, address: str | None = None) -> OCSPCertStatus:
        """Return what the cache, or somebody else, says."""
        answer = http_request(
            address or self.cache, "POST", "/ocsp", body=request, headers=OCSP_TYPE
        )
        return load_der_ocsp_response(answer[2]).certificate_status


OCSP_TYPE = {"Content-Type": "application/ocsp-request"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Yield a topology and its cache; a test leaves both running."""
    directory = tmp_path_factory.mktemp("status-cache")
    with Topology(directory / "nodes") as topology:
        status = topology.va.listen["status"]
        with running_status_cache(directory / "front", [status]) as cache:
            yield Front(topology, cache, directory)


def get_path(request: bytes) -> str:
    return "/" + base64.b64encode(request).decode().replace("+", "%2B").replace("/", "%2F")


def wait_for(front: Front, said: str, method: str, path: str, **more: Any) -> dict[str, str]:
    """Ask until the cache says that of itself; return the headers."""
    headers: dict[str, str] = {}

    def is_said() -> bool:
        headers.clear()
        headers.update(front.ask(method, path, **more)[1])
        return headers["cache-status"] == said

    wait_until(is_said, timeout_seconds=30, what=lambda: f"{said}: {headers}")
    return headers


def test_get_and_post_are_kept_each_by_what_was_asked(front: Front) -> None:
    _, first = front.issue("kept-1")
    _, second = front.issue("kept-2")
    wait_for(front, HIT, "GET", get_path(first))
    wait_for(front, HIT, "HEAD", get_path(first))
    wait_for(front, HIT, "POST", "/ocsp", body=first, headers=OCSP_TYPE)
    for request in (first, second, first):
        answer = load_der_ocsp_response(front.ocsp(request)[2])
        asked = x509.ocsp.load_der_ocsp_request(request)
        assert answer.serial_number == asked.serial_number


def test_max_age_counts_from_the_vas_own_date(front: Front) -> None:
    _, request = front.issue("date")
    headers = front.ocsp(request)[1]
    again = wait_for(front, HIT, "POST", "/ocsp", body=request, headers=OCSP_TYPE)
    assert again["etag"] == headers["etag"]
    assert again["expires"] == headers["expires"]
    assert "max-age=" in again["cache-control"]
    assert "server" not in again or "/" not in again["server"]


def test_a_revocation_is_seen_through_the_cache_within_two_seconds(front: Front) -> None:
    issued, request = front.issue("revoked")
    wait_for(front, HIT, "POST", "/ocsp", body=request, headers=OCSP_TYPE)
    assert front.topology.rest().revoke(issued["serial"])[0] == 200
    va = front.topology.va.listen["status"]
    wait_until(lambda: front.status(request, va) is OCSPCertStatus.REVOKED, what="the VA knows")
    known = began = time.monotonic()
    while front.status(request) is not OCSPCertStatus.REVOKED:
        assert began - known < SEEN_SECONDS, "the cache keeps what isn't so any more"
        began = time.monotonic()


def test_what_must_not_be_kept_is_asked_for_each_time(front: Front) -> None:
    issued, _ = front.issue("nonce")
    certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
    path = "/v1/objects/certification_authorities/issuing"
    state = front.topology.ca.admin.get(path)["state"]
    issuer = x509.load_pem_x509_certificate(state["certificate"].encode())
    builder = OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())
    builder = builder.add_extension(x509.OCSPNonce(b"n" * 32), critical=False)
    request = builder.build().public_bytes(Encoding.DER)
    for _ in range(3):
        headers = front.ocsp(request)[1]
        assert headers["cache-control"] == "no-store"
        assert headers["cache-status"] == "peersys; fwd=uri-miss"


def test_crl_comes_in_parts_and_is_not_sent_twice(front: Front) -> None:
    headers = wait_for(front, HIT, "GET", "/crl/issuing.crl")
    whole = front.ask("GET", "/crl/issuing.crl")[2]
    status, part, body = front.ask("GET", "/crl/issuing.crl", headers={"Range": "bytes=10-19"})
    assert (status, body) == (206, whole[10:20])
    assert part["content-range"] == f"bytes 10-19/{len(whole)}"
    status, _, body = front.ask(
        "GET", "/crl/issuing.crl", headers={"If-None-Match": headers["etag"]}
    )
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("PUT", "/ocsp", {"body": b"x"}, 405),
        ("POST", "/ocsp", {"body": b"x" * 8193}, 413),
        ("GET", "/nothing", {}, 404),
    ],
)
def test_what_nobody_needs_is_refused(
    front: Front, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    assert front.ask(method, path, **more)[0] == status


def test_without_its_va_it_goes_on_and_never_past_the_end(front: Front) -> None:
    signer = front.topology.va.admin.get("/v1/objects/signers/issuing")["spec"]
    front.topology.va.admin.put(
        "/v1/objects/signers/issuing", {**signer, "validity_seconds": VALIDITY_SECONDS}
    )
    _, request = front.issue("without-va")
    front.ocsp(request)
    front.topology.va.stop()
    try:
        wait_for(front, STALE, "POST", "/ocsp", body=request, headers=OCSP_TYPE)
        served = []
        while (answer := front.ocsp(request))[0] == 200:
            served.append((time.time(), load_der_ocsp_response(answer[2])))
        assert answer[0] == 503
        assert answer[1]["retry-after"] == "5"
        assert answer[1]["cache-control"] == "no-store"
        for at, one in served:
            assert one.next_update_utc is not None
            assert at < one.next_update_utc.timestamp()
    finally:
        front.topology.start_agent(front.topology.va)
    wait_until(lambda: front.ocsp(request)[0] == 200, timeout_seconds=30, what="the VA answers")
