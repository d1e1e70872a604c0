"""Certificates and CRLs fetched from a real VA as RFC 4387 and RFC 5280 say, with curl; OpenSSL
judges what came. End-entity certificates come only where the signer allows it.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.openssl import make_csr, openssl
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.agents import Topology

    Start = Callable[..., AbstractContextManager[Topology]]

pytestmark = pytest.mark.timeout(180)


class Client:
    """curl at the VA's status port."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self._url = f"http://{topology.va.listen['status']}"
        self._body = directory / "body"

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Return status, headers in lower case and body."""
        options = ("--silent", "--show-error", "--max-time", "20", "--dump-header", "-")
        ran = subprocess.run(
            ["curl", *options, "--output", self._body, f"{self._url}{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(ran.stdout.split()[1]), ran.stdout.lower(), self._body.read_bytes()


def key_of(data: bytes) -> str:
    """Return a search key as RFC 4387 section 2.1 makes it, by openssl's hash."""
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return quote(base64.b64encode(digest).decode().rstrip("="), safe="")


def serial_and_issuer(certificate: x509.Certificate) -> bytes:
    """Return IssuerAndSerialNumber (RFC 5652 section 10.2.4) in DER."""
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    content = certificate.issuer.public_bytes() + b"\x02" + bytes([len(serial)]) + serial
    assert len(content) < 128
    return b"\x30" + bytes([len(content)]) + content


def test_certificates_and_crls_are_fetched_and_end_entities_only_if_allowed(
    own_topology: Start, tmp_path: Path
) -> None:
    with own_topology() as topology:
        client = Client(topology, tmp_path)
        issuing = ca_certificate(topology, "issuing")
        root = ca_certificate(topology, "root")
        check_search(client, issuing, root)
        check_crl(client, issuing, tmp_path)
        check_chain(client, tmp_path)
        check_refusals(client)
        check_end_entity(topology, client, tmp_path)


def ca_certificate(topology: Topology, name: str) -> x509.Certificate:
    """Return a CA's certificate as its own node knows it."""
    state = topology.ca.admin.state("certification_authorities", name)
    return x509.load_pem_x509_certificate(state["certificate"].encode())


def check_search(client: Client, issuing: x509.Certificate, root: x509.Certificate) -> None:
    """One certificate by what it is, several by who issued them."""
    der = issuing.public_bytes(Encoding.DER)
    key_id = issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    queries = {
        "certHash": der,
        "sHash": issuing.subject.public_bytes(),
        "iAndSHash": serial_and_issuer(issuing),
        "sKIDHash": key_id,
    }
    for attribute, data in queries.items():
        status, headers, body = client.get(f"/certificates/search.cgi?{attribute}={key_of(data)}")
        assert (status, body) == (200, der), attribute
        assert "content-type: application/pkix-cert" in headers
        assert ("immutable" in headers) == (attribute in ("certHash", "iAndSHash"))
    status, _, body = client.get("/certificates/search.cgi?name=Test+Issuing&x=1")
    assert (status, body) == (200, der)
    for query in ("name=test+issuing", "name=Test", "uri=Test+Issuing"):
        assert client.get(f"/certificates/search.cgi?{query}")[0] == 404, query
    query = key_of(root.subject.public_bytes())
    status, headers, body = client.get(f"/certificates/search.cgi?iHash={query}")
    assert status == 200
    assert "content-type: multipart/mixed" in headers
    assert der in body
    assert root.public_bytes(Encoding.DER) in body


def check_crl(client: Client, issuing: x509.Certificate, directory: Path) -> None:
    """The CRL of an issuer by its name, verified by openssl."""
    query = key_of(issuing.subject.public_bytes())
    status, headers, body = client.get(f"/crls/search.cgi?iHash={query}")
    assert status == 200
    assert "content-type: application/pkix-crl" in headers
    crl, ca = directory / "found.crl", directory / "issuing.pem"
    crl.write_bytes(body)
    ca.write_bytes(issuing.public_bytes(Encoding.PEM))
    assert "verify OK" in openssl("crl", "-inform", "DER", "-in", crl, "-CAfile", ca, "-noout")


def check_chain(client: Client, directory: Path) -> None:
    """caIssuers: one certificate, and the whole chain as certs-only CMS."""
    status, headers, _ = client.get("/ca/issuing.cer")
    assert status == 200
    assert "content-type: application/pkix-cert" in headers
    status, headers, body = client.get("/ca/issuing.p7c")
    assert status == 200
    assert "content-type: application/pkcs7-mime" in headers
    chain = directory / "chain.p7c"
    chain.write_bytes(body)
    printed = openssl("pkcs7", "-inform", "DER", "-in", chain, "-print_certs", "-noout")
    assert printed.count("subject=") == 2
    assert client.get("/ca/nobody.p7c")[0] == 404


def check_refusals(client: Client) -> None:
    """Malformed queries, and what isn't there."""
    for query in ("", "certHash=short", f"who={'A' * 27}", f"certHash={'A' * 27}%3D"):
        assert client.get(f"/certificates/search.cgi?{query}")[0] == 400, query
    assert client.get(f"/crls/search.cgi?certHash={'A' * 27}")[0] == 400
    assert client.get(f"/certificates/search.cgi?certHash={'A' * 27}")[0] == 404


def check_end_entity(topology: Topology, client: Client, directory: Path) -> None:
    """Nobody gets an end entity's certificate until the signer allows it."""
    status, answer = topology.rest().enroll(make_csr(directory))
    assert status == 201
    leaf = x509.load_pem_x509_certificate(answer["certificate"].encode())
    path = f"/certificates/issuing/{leaf.serial_number:x}.cer"
    wait_until(
        lambda: any(
            item["serial"] == f"{leaf.serial_number:x}"
            for item in topology.va.admin.get("/v1/certificates", limit=50)
        ),
        what="the VA has it",
    )
    assert client.get(path)[0] == 404
    spec = topology.va.admin.get("/v1/objects/signers/issuing")["spec"]
    topology.va.admin.put("/v1/objects/signers/issuing", {**spec, "certificate_retrieval": True})
    status, headers, body = client.get(path)
    assert status == 200
    assert x509.load_der_x509_certificate(body) == leaf
    assert "immutable" in headers
    assert "etag:" in headers
    assert client.get("/certificates/issuing/1.cer")[0] == 404
    assert client.get(f"/certificates/root/{leaf.serial_number:x}.cer")[0] == 404
    # By hash nobody finds an end entity: whoever knows issuer and serial only.
    query = key_of(leaf.public_bytes(Encoding.DER))
    assert client.get(f"/certificates/search.cgi?certHash={query}")[0] == 404
