"""What the path cases can't build: certificates that ``cryptography`` refuses to sign."""

from __future__ import annotations

import cryptography_vectors
from cryptography import x509

from node_agent.net.path import _algorithm_fault


def vector(path: str) -> bytes:
    with cryptography_vectors.open_vector_file(path, "rb") as file:
        content: bytes = file.read()
        return content


def test_a_certificate_that_is_signed_with_sha1_is_refused() -> None:
    certificate = x509.load_pem_x509_certificate(vector("x509/ee-pss-sha1-cert.pem"))
    assert _algorithm_fault(certificate) == "signed with sha1"


def test_a_certificate_with_a_dsa_key_is_refused() -> None:
    der = vector("x509/PKITS_data/certs/ValidDSASignaturesTest4EE.crt")
    assert _algorithm_fault(x509.load_der_x509_certificate(der)) is not None
