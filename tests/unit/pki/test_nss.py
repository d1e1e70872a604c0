"""What NSS, which is in browsers, makes of our OCSP answers and CRLs: fetched over HTTP from where
the certificate points to.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from node_agent.pki import authorities, crl, ocsp
from node_agent.pki.issue import issue, sign
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey
from node_agent.pki.names import parse_name
from node_agent.store.records import CertificateStatus
from node_agent.web.ocsp_path import request_from_path
from tests.support.csrs import key_of_kind, parsed_csr, profile
from tests.support.judges import Nss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# NSS has no clock to be set: it holds all of this against the time of day.
NOW = int(time.time())
DAY = 86400
KINDS = ["ec-p256", "ec-p384", "rsa-2048"]


@dataclass
class Site:
    """A chain whose certificates point to an HTTP server that answers whatever it is told to."""

    url: str
    root: Issuer
    issuer: Issuer
    leaf: bytes
    serial: int
    nss: Nss
    answer: Callable[[bytes], bytes] = bytes

    def answer_ocsp(self, signer: ocsp.OcspSigner, **status: object) -> None:
        """Answer requests with this status."""

        def make(request: bytes) -> bytes:
            answers = [
                ocsp.CertStatusAnswer(
                    cert_id=cert_id,
                    this_update=NOW,
                    next_update=NOW + DAY,
                    **status,  # type: ignore[arg-type]
                )
                for cert_id in ocsp.parse_request(request).cert_ids
            ]
            return ocsp.build_response(signer, answers, produced_at=NOW)

        self.answer = make

    def answer_crl(self, *rows: tuple[object, ...]) -> None:
        """Give out a CRL with these rows."""
        made = crl.build_crl(
            self.issuer,
            rows,  # type: ignore[arg-type]
            number=1,
            this_update=NOW,
            next_update=NOW + DAY,
        )
        self.answer = lambda _: made

    def signer(self, kind: str = "ec-p256", *, at: int = NOW - 60) -> ocsp.OcspSigner:
        """Return a signer that was certified for a day."""
        key = LocalKey.of(key_of_kind(kind, 300))
        made = authorities.prepare_ocsp_signer(
            self.issuer, key.spki, common_name="signer", now=at, validity_seconds=DAY
        )
        return ocsp.OcspSigner.load(key, sign(made).der)


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, list[Site]]]:
    """Serve what the site in the list answers; yield the server's URL and the list."""
    sites: list[Site] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(sites[0].answer(request_from_path(self.path.encode()) or b""))

        def do_POST(self) -> None:
            self._send(sites[0].answer(self.rfile.read(int(self.headers["Content-Length"]))))

        def _send(self, body: bytes) -> None:
            kind = "pkix-crl" if self.path.endswith(".crl") else "ocsp-response"
            self.send_response(200)
            self.send_header("Content-Type", f"application/{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sites
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving() as (url, sites):
        key = LocalKey.of(key_of_kind("ec-p256", 100))
        made = sign(
            authorities.prepare_self_signed_ca(
                key, parse_name("CN=Root"), kind="root", now=NOW - 90 * DAY, validity_days=3650
            )
        )
        root = Issuer.load(key, [made.der])
        key = LocalKey.of(key_of_kind("ec-p256", 200))
        made = sign(
            authorities.prepare_issuing_ca(
                root, key.spki, parse_name("CN=Issuing"), now=NOW - 60 * DAY, validity_days=3000
            )
        )
        issuer = Issuer.load(
            key,
            [made.der, *root.chain],
            ocsp_urls=[f"{url}/ocsp"],
            crl_urls=[f"{url}/issuing.crl"],
        )
        leaf = issue(issuer, profile().admit(parsed_csr()), now=NOW - 60)
        nss = Nss(tmp_path_factory.mktemp("nss"), root=root.certificate, issuer=issuer.certificate)
        sites.append(Site(url, root, issuer, leaf.der, leaf.serial, nss))
        yield sites[0]


@pytest.mark.parametrize("kind", KINDS)
def test_good_is_good_by_every_kind_of_signer_that_nss_knows(site: Site, kind: str) -> None:
    site.answer_ocsp(site.signer(kind), status="good")
    assert site.nss.judge(site.leaf, "ocsp")


@pytest.mark.parametrize(
    "status",
    [
        {"status": "revoked", "revoked_at": NOW - 30, "reason": 1},
        {"status": "revoked", "revoked_at": NOW - 30},
        {"status": "revoked", "never_issued": True},
    ],
    ids=["keyCompromise", "no reason", "never issued"],
)
def test_revoked_is_revoked(site: Site, status: dict[str, object]) -> None:
    site.answer_ocsp(site.signer(), **status)
    assert not site.nss.judge(site.leaf, "ocsp", strict=False)


def test_unknown_is_not_good(site: Site) -> None:
    site.answer_ocsp(site.signer(), status="unknown")
    assert not site.nss.judge(site.leaf, "ocsp")


def test_an_expired_signer_is_not_believed(site: Site) -> None:
    site.answer_ocsp(site.signer(at=NOW - 20 * DAY), status="good")
    assert not site.nss.judge(site.leaf, "ocsp")


def test_an_unsigned_refusal_is_no_status(site: Site) -> None:
    site.answer = lambda _: ocsp.error_response(ocsp.OcspError.UNAUTHORIZED)
    assert not site.nss.judge(site.leaf, "ocsp")
    assert site.nss.judge(site.leaf, "ocsp", strict=False)


def test_a_crl_says_who_is_revoked(site: Site) -> None:
    def row(serial: int) -> tuple[object, ...]:
        revoked = CertificateStatus.REVOKED.value
        return (serial.to_bytes(20, "big"), revoked, NOW - 30, 1, None, NOW - 30)

    site.answer_crl(row(4711))
    assert site.nss.judge(site.leaf, "crl")
    site.answer_crl(row(site.serial))
    assert not site.nss.judge(site.leaf, "crl", strict=False)
