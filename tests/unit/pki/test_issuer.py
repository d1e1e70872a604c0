"""Loading an issuer: the certificate must be a CA's and of the key at hand."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import ConfigError
from node_agent.pki.issue import issue
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey
from tests.support.csrs import NOW, issuing_ca, key_of_kind, parsed_csr, profile, root_ca


def test_issuer_repeats_its_certificate_octet_for_octet():
    issuer = issuing_ca()
    certificate = x509.load_der_x509_certificate(issuer.certificate)
    assert issuer.name == certificate.subject.public_bytes()
    assert issuer.key_id == (
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert issuer.fingerprint_sha256 == certificate.fingerprint(hashes.SHA256()).hex()
    assert issuer.chain[1] == root_ca().certificate


def test_key_of_another_ca_is_refused():
    with pytest.raises(ConfigError, match="another key"):
        Issuer.load(LocalKey.of(key_of_kind("ec-p256", 7)), [issuing_ca().certificate])


def test_certificate_of_an_end_entity_is_refused():
    leaf = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    with pytest.raises(ConfigError, match="not a CA"):
        Issuer.load(LocalKey.of(key_of_kind("ec-p256", 1)), [leaf.der])


@pytest.mark.parametrize("octets", [b"", b"\x30\x00"])
def test_octets_that_are_no_certificate_are_refused(octets):
    with pytest.raises(ConfigError):
        Issuer.load(root_ca().key, [octets])


@pytest.mark.parametrize("url", ["ftp://example.org/x", "not a url", "http:///x", "https://ü/"])
def test_url_that_no_client_can_fetch_is_refused(url):
    with pytest.raises(ConfigError, match="crl_urls"):
        Issuer.load(root_ca().key, root_ca().chain, crl_urls=[url])


def test_ca_certificate_of_another_maker_without_key_id_is_usable():
    key = key_of_kind("ec-p256", 160)
    name = x509.Name.from_rfc4514_string("CN=Foreign")
    usages = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"], False
    )
    import datetime

    start = datetime.datetime.fromtimestamp(NOW - 1000, datetime.UTC)
    foreign = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), True)
        .add_extension(
            x509.KeyUsage(
                **usages,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
        .sign(key, hashes.SHA256())
    )
    issuer = Issuer.load(LocalKey.of(key), [foreign.public_bytes(Encoding.DER)])
    assert issuer.path_length == 3
    leaf = issue(issuer, profile().admit(parsed_csr()), now=NOW)
    x509.load_der_x509_certificate(leaf.der).verify_directly_issued_by(foreign)
