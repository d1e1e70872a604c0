"""Requests: what is read out of them, and that everything else is CsrRefused."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node_agent.errors import CsrRefused
from node_agent.pki import der
from node_agent.pki.csr import MAX_CSR_BYTES, parse_csr
from node_agent.pki.keys import KEY_KINDS, LocalKey, algorithm_identifier, spki_of
from tests.support.csrs import csr_der, key_of_kind, openssl, pem


def refusal(data):
    with pytest.raises(CsrRefused) as refused:
        parse_csr(data)
    assert refused.value.field
    assert refused.value.remedy
    return refused.value


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_request_of_every_kind_is_read(kind):
    key = key_of_kind(kind)
    csr = parse_csr(csr_der("CN=host.example.org", ["dns:Host.example.org"], key=key))
    assert csr.key_kind == kind
    assert csr.spki == spki_of(key.public_key())
    assert csr.subject == (("common_name", "host.example.org"),)
    assert csr.alternative_names == (("dns", "host.example.org"),)


@pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
def test_pem_is_read_like_der(label):
    encoded = csr_der("CN=x")
    assert parse_csr(pem(label, encoded)) == parse_csr(encoded)
    assert parse_csr(pem(label, encoded).replace(b"\n", b"\r\n")).der == encoded


def test_request_made_by_openssl_is_read(tmp_path):
    openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "csr.pem",
        "-subj", "/C=DE/O=Example/CN=host.example.org",
        "-addext", "subjectAltName=DNS:host.example.org,IP:192.0.2.1,email:a@example.org,URI:https://example.org/",
        "-addext", "keyUsage=digitalSignature",
    )  # fmt: skip
    csr = parse_csr((tmp_path / "csr.pem").read_bytes())
    assert [value for _, value in csr.subject] == ["DE", "Example", "host.example.org"]
    assert {kind for kind, _ in csr.alternative_names} == {"dns", "ip", "email", "uri"}


def test_name_asked_for_twice_is_one_name():
    csr = parse_csr(csr_der("", ["dns:a.example", "dns:A.example", "dns:b.example"]))
    assert [value for _, value in csr.alternative_names] == ["a.example", "b.example"]


def test_wildcard_is_left_for_the_profile_to_judge():
    csr = parse_csr(csr_der("", ["dns:*.example.org"]))
    assert csr.alternative_names == (("dns", "*.example.org"),)


def test_other_requested_extensions_are_ignored():
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    csr = parse_csr(csr_der("CN=x", extensions=[(usage, True), (unknown, True)]))
    assert csr.alternative_names == ()


def test_request_for_a_ca_is_refused():
    wish = x509.BasicConstraints(ca=True, path_length=None)
    assert refusal(csr_der("CN=x", extensions=[(wish, True)])).field == "basic_constraints"


def test_request_for_no_ca_is_not():
    wish = x509.BasicConstraints(ca=False, path_length=None)
    assert parse_csr(csr_der("CN=x", extensions=[(wish, True)])).subject


def test_signature_of_another_key_is_refused():
    mine = csr_der("CN=x", key=key_of_kind("ec-p256", 1))
    other = csr_der("CN=x", key=key_of_kind("ec-p256", 2))
    info, algorithm, _ = (whole for _, _, whole in der.children(der.read_all(mine, der.SEQUENCE)))
    signature = der.children(der.read_all(other, der.SEQUENCE))[2][2]
    assert "not signed" in refusal(der.sequence(info, algorithm, signature)).detail


def test_sha1_signature_is_refused():
    key = key_of_kind("rsa-2048")
    encoded = csr_der("CN=x", key=key)
    sha1 = der.sequence(der.oid("1.2.840.113549.1.1.5"), der.NULL)
    sha256 = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.NULL)
    assert refusal(encoded.replace(sha256, sha1)).remedy.startswith("sign it with SHA-256")


def test_weak_key_is_refused():
    key = rsa.generate_private_key(3, 2048)
    assert "exponent" in refusal(csr_der("CN=x", key=key)).detail


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())],
    ids=["rsa-1024", "secp256k1"],
)
def test_key_of_no_supported_kind_is_refused(key):
    assert refusal(csr_der("CN=x", key=key)).field == "key"


def test_point_off_the_curve_is_refused():
    key = key_of_kind("ec-p256", 1)
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    off = point[:-1] + bytes([point[-1] ^ 1])
    assert "well-formed" in refusal(csr_der("CN=x", key=key).replace(point, off)).detail


@pytest.mark.parametrize(
    "name",
    [
        x509.DirectoryName(x509.Name([])),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"),
        x509.DNSName("under_score.example"),
        x509.DNSName("host.example.org\x00.evil.example"),
        x509.UniformResourceIdentifier("relative"),
        x509.RFC822Name("a..b@example.org"),
    ],
    ids=lambda name: type(name).__name__,
)
def test_alternative_name_that_cannot_be_certified_is_refused(name):
    san = x509.SubjectAlternativeName([name])
    assert refusal(csr_der("CN=x", extensions=[(san, False)])).field.startswith("san")


def test_too_many_names_are_refused():
    names = [f"dns:h{number}.example" for number in range(251)]
    assert "250" in refusal(csr_der("", names)).detail


def subject_csr(name):
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    request = builder.sign(key_of_kind("ec-p256", 1), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("rdns", "field"),
    [
        ([[(NameOID.GIVEN_NAME, "Ada")]], "subject"),
        ([[(NameOID.COMMON_NAME, "a"), (NameOID.LOCALITY_NAME, "b")]], "subject"),
        ([[(NameOID.COMMON_NAME, "a\x00b")]], "subject.common_name"),
        ([[(NameOID.ORGANIZATIONAL_UNIT_NAME, "x")]] * 251, "subject"),
    ],
    ids=["unknown", "multivalued", "control", "endless"],
)
def test_subject_that_cannot_be_certified_is_refused(rdns, field):
    name = x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in rdn])
            for rdn in rdns
        ]
    )
    assert refusal(subject_csr(name)).field == field


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"hello",
        b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n",
        b"\x30" + bytes(MAX_CSR_BYTES),
    ],
)
def test_what_is_no_request_is_refused(data):
    assert refusal(data)


def test_trailing_bytes_are_refused():
    encoded = csr_der("CN=x")
    assert refusal(encoded + b"\x00")
    assert refusal(pem("CERTIFICATE REQUEST", encoded) * 2)
    assert refusal(pem("CERTIFICATE REQUEST", encoded) + b"more")


def test_certificate_in_place_of_a_request_is_refused():
    from tests.support.csrs import root_ca

    assert refusal(root_ca().certificate)
    assert refusal(pem("CERTIFICATE", root_ca().certificate))


def test_every_cut_and_every_flipped_bit_is_refused_or_changes_nothing():
    encoded = csr_der("CN=host.example.org", ["dns:host.example.org"])
    original = parse_csr(encoded)
    for at in range(len(encoded)):
        refusal(encoded[:at])
        for bit in range(8):
            flipped = bytearray(encoded)
            flipped[at] ^= 1 << bit
            try:
                read = parse_csr(bytes(flipped))
            except CsrRefused:
                continue
            assert replace(read, der=encoded) == original


def test_pem_body_must_be_base64():
    body = base64.b64encode(csr_der("CN=x"))[:-5] + b"="
    assert refusal(
        b"-----BEGIN CERTIFICATE REQUEST-----\n%b\n-----END CERTIFICATE REQUEST-----\n" % body
    )


def test_extension_asked_for_twice_is_refused():
    san = der.extension("2.5.29.17", der.sequence(der.tlv(0x82, b"a.example")))
    request = der.sequence(
        der.oid("1.2.840.113549.1.9.14"), der.tlv(der.SET, der.sequence(san, san))
    )
    key = LocalKey.of(key_of_kind("ec-p256", 1))
    attributes = der.context(0, request, constructed=True)
    info = der.sequence(der.integer(0), b"\x30\x00", key.spki, attributes)
    signature = der.bit_string(key.sign(info))
    assert refusal(der.sequence(info, algorithm_identifier("ec-p256"), signature))
