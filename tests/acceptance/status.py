"""Ask a VA over HTTP what it says of a certificate."""

from __future__ import annotations

import hashlib
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

_SECONDS = 3


def issuer_of(url: str, authority: str) -> x509.Certificate:
    """Return the CA's certificate as the VA hands it out."""
    with urllib.request.urlopen(f"{url}/ca/{authority}.cer", timeout=_SECONDS) as answer:
        return x509.load_der_x509_certificate(answer.read())


def status_of(url: str, serial: str, issuer: x509.Certificate) -> ocsp.OCSPCertStatus:
    """Return what the VA's OCSP says of the certificate with that serial number."""
    subject = hashlib.sha256(issuer.subject.public_bytes()).digest()
    # Of the bits of the key alone (RFC 6960, section 4.1.1).
    point = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = hashlib.sha256(point).digest()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        subject, key, int(serial, 16), SHA256()
    )
    asked = urllib.request.Request(
        f"{url}/ocsp",
        data=builder.build().public_bytes(Encoding.DER),
        headers={"Content-Type": "application/ocsp-request"},
    )
    with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:
        return ocsp.load_der_ocsp_response(answer.read()).certificate_status
