"""OCSP: requests from openssl and cryptography are read, answers are judged by both and pkilint."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp as reference

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import authorities, der, ocsp
from node_agent.pki.issue import issue, sign
from node_agent.pki.keys import KEY_KINDS, LocalKey
from node_agent.pki.outline import outline
from tests.support.csrs import (
    NOW,
    issuing_ca,
    key_of_kind,
    openssl,
    parsed_csr,
    pem,
    pkilint_ocsp,
    profile,
    root_ca,
)

DER = serialization.Encoding.DER


def issued_leaf():
    return issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)


def signer(kind="ec-p256", issuer_kind="ec-p256"):
    key = LocalKey.of(key_of_kind(kind, 300))
    made = authorities.prepare_ocsp_signer(
        issuing_ca(issuer_kind),
        key.spki,
        common_name="OCSP signer",
        now=NOW,
        validity_seconds=86400 * 30,
    )
    return ocsp.OcspSigner.load(key, sign(made).der)


def request(leaf, *, nonce=None, algorithm=None):
    builder = reference.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(leaf.der),
        x509.load_der_x509_certificate(issuing_ca().certificate),
        algorithm or hashes.SHA1(),
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), False)
    return builder.build().public_bytes(DER)


def answer(cert_id, **changes):
    fields = {"status": "good", "this_update": NOW, "next_update": NOW + 3600, **changes}
    return ocsp.CertStatusAnswer(cert_id=cert_id, **fields)


def respond(cert_ids, **changes):
    answers = [answer(cert_id, **changes) for cert_id in cert_ids]
    return ocsp.build_response(signer(), answers, produced_at=NOW)


@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()],
    ids=lambda a: a.name,
)
def test_request_names_the_issuer_and_the_serial(algorithm):
    leaf = issued_leaf()
    read = ocsp.parse_request(request(leaf, algorithm=algorithm))
    (cert_id,) = read.cert_ids
    assert cert_id.serial == leaf.serial
    assert cert_id.issuer in ocsp.issuer_hashes(issuing_ca().name, issuing_ca().spki)
    assert cert_id.issuer not in ocsp.issuer_hashes(root_ca().name, root_ca().spki)
    assert read.nonce is None


def test_other_hash_algorithm_matches_no_issuer():
    asked = request(issued_leaf(), algorithm=hashes.SHA224())
    (cert_id,) = ocsp.parse_request(asked).cert_ids
    assert cert_id.issuer[0] == ""


@pytest.mark.parametrize("length", [1, 32, 128])
def test_nonce_is_read(length):
    assert ocsp.parse_request(request(issued_leaf(), nonce=b"n" * length)).nonce == b"n" * length


@pytest.mark.parametrize("length", [0, 129])
def test_nonce_of_another_length_is_refused(length):
    with pytest.raises(RequestRefused, match="nonce"):
        ocsp.parse_request(request(issued_leaf(), nonce=b"n" * length))


def test_openssl_asks_and_accepts_the_answer(tmp_path):
    leaf = issued_leaf()
    (tmp_path / "issuing.pem").write_bytes(pem("CERTIFICATE", issuing_ca().certificate))
    (tmp_path / "root.pem").write_bytes(pem("CERTIFICATE", root_ca().certificate))
    (tmp_path / "leaf.pem").write_bytes(pem("CERTIFICATE", leaf.der))
    openssl(
        "ocsp", "-issuer", tmp_path / "issuing.pem", "-cert", tmp_path / "leaf.pem",
        "-serial", "12345", "-reqout", tmp_path / "request.der",
    )  # fmt: skip
    read = ocsp.parse_request((tmp_path / "request.der").read_bytes())
    assert [cert_id.serial for cert_id in read.cert_ids] == [leaf.serial, 12345]
    assert read.nonce
    answers = [
        answer(read.cert_ids[0]),
        answer(read.cert_ids[1], status="revoked", revoked_at=NOW - 5, reason=1),
    ]
    encoded = ocsp.build_response(signer(), answers, produced_at=NOW, nonce=read.nonce)
    (tmp_path / "response.der").write_bytes(encoded)
    said = openssl(
        "ocsp", "-reqin", tmp_path / "request.der", "-respin", tmp_path / "response.der",
        "-issuer", tmp_path / "issuing.pem", "-cert", tmp_path / "leaf.pem", "-serial", "12345",
        "-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "issuing.pem",
        "-attime", str(NOW + 60), "-validity_period", "999999999", "-no_nonce",
    )  # fmt: skip
    assert "Response verify OK" in said
    assert f"{tmp_path}/leaf.pem: good" in said
    assert "12345: revoked" in said
    assert "Reason: keyCompromise" in said
    assert "nonce" not in said.lower()


def test_answer_says_good():
    leaf = issued_leaf()
    read = ocsp.parse_request(request(leaf))
    response = reference.load_der_ocsp_response(respond(read.cert_ids))
    assert response.response_status is reference.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is reference.OCSPCertStatus.GOOD
    assert response.serial_number == leaf.serial
    assert response.produced_at_utc.timestamp() == NOW
    assert response.this_update_utc.timestamp() == NOW
    assert response.next_update_utc.timestamp() == NOW + 3600
    assert response.certificates[0].public_bytes(DER) == signer_certificate(response)


def signer_certificate(response):
    """Check the signature with the certificate inside, and its id; return its encoding."""
    (certificate,) = response.certificates
    public_key = certificate.public_key()
    spki = public_key.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    from node_agent.pki.keys import verify

    assert verify(spki, response.signature, response.tbs_response_bytes)
    digest = x509.SubjectKeyIdentifier.from_public_key(public_key).digest
    assert response.responder_key_hash == digest
    return certificate.public_bytes(DER)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_every_kind_of_key_signs_answers(kind):
    read = ocsp.parse_request(request(issued_leaf()))
    made = signer(kind)
    encoded = ocsp.build_response(made, [answer(read.cert_ids[0])], produced_at=NOW)
    response = reference.load_der_ocsp_response(encoded)
    assert signer_certificate(response) == made.certificate


def test_unknown_revoked_and_never_issued():
    read = ocsp.parse_request(request(issued_leaf()))
    unknown = reference.load_der_ocsp_response(respond(read.cert_ids, status="unknown"))
    assert unknown.certificate_status is reference.OCSPCertStatus.UNKNOWN
    plain = reference.load_der_ocsp_response(
        respond(read.cert_ids, status="revoked", revoked_at=NOW - 9, next_update=None)
    )
    assert plain.revocation_time_utc.timestamp() == NOW - 9
    assert plain.revocation_reason is None
    assert plain.next_update_utc is None
    encoded = respond(read.cert_ids, status="revoked", never_issued=True)
    never = reference.load_der_ocsp_response(encoded)
    assert never.certificate_status is reference.OCSPCertStatus.REVOKED
    assert never.revocation_time_utc.timestamp() == 0
    assert never.revocation_reason is x509.ReasonFlags.certificate_hold
    assert der.oid("1.3.6.1.5.5.7.48.1.9") in encoded


STATUSES = {
    "good": {"status": "good"},
    "unknown": {"status": "unknown"},
    "revoked": {"status": "revoked", "revoked_at": NOW - 9, "reason": 1},
    "no reason": {"status": "revoked", "revoked_at": NOW - 9},
    "held": {"status": "revoked", "revoked_at": NOW - 9, "reason": 6},
    "never issued": {"status": "revoked", "never_issued": True},
}


@pytest.mark.parametrize("nonce", [None, b"n" * 32])
@pytest.mark.parametrize("status", STATUSES)
def test_pkilint_finds_nothing(nonce, status):
    read = ocsp.parse_request(request(issued_leaf()))
    answers = [answer(read.cert_ids[0], **STATUSES[status])]
    encoded = ocsp.build_response(signer(), answers, produced_at=NOW, nonce=nonce)
    assert pkilint_ocsp(encoded) == []
    loaded = reference.load_der_ocsp_response(encoded)
    found = [extension.value for extension in loaded.extensions]
    assert [value.nonce for value in found if isinstance(value, x509.OCSPNonce)] == (
        [nonce] if nonce else []
    )
    assert len(found) == (nonce is not None) + (status == "never issued")


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("nonce", [None, b"n"])
def test_pkilint_finds_nothing_in_the_answer_for_many_by_any_signer(kind, nonce):
    leaf = issued_leaf()
    cert_ids = [
        ocsp.parse_request(request(leaf, algorithm=algorithm)).cert_ids[0]
        for algorithm in (hashes.SHA1(), hashes.SHA256())
        for _ in STATUSES
    ]
    answers = [
        answer(cert_id, **status)
        for cert_id, status in zip(cert_ids, [*STATUSES.values()] * 2, strict=True)
    ]
    encoded = ocsp.build_response(signer(kind), answers, produced_at=NOW, nonce=nonce)
    assert pkilint_ocsp(encoded) == []
    assert len(list(reference.load_der_ocsp_response(encoded).responses)) == 2 * len(STATUSES)


@pytest.mark.parametrize("error", ocsp.OcspError)
def test_error_answers_are_what_clients_expect(error):
    response = reference.load_der_ocsp_response(ocsp.error_response(error))
    assert response.response_status.value == int(error)


def test_certificate_without_the_purpose_is_no_signers():
    with pytest.raises(ConfigError, match="OCSP signer"):
        ocsp.OcspSigner.load(LocalKey.of(key_of_kind("ec-p256", 1)), issued_leaf().der)
    with pytest.raises(ConfigError, match="OCSP signer"):
        ocsp.OcspSigner.load(root_ca().key, root_ca().certificate)
    with pytest.raises(ConfigError, match="another key"):
        ocsp.OcspSigner.load(LocalKey.of(key_of_kind("ec-p256", 1)), signer().certificate)


def test_certificate_whose_algorithm_was_changed_around_its_signature_is_not_the_cas():
    good = signer()
    authority = outline(issuing_ca().certificate)
    good.check_issuer(authority.subject, authority.spki)
    sha256, sha384 = der.oid("1.2.840.10045.4.3.2"), der.oid("1.2.840.10045.4.3.3")
    inside, _, outside = good.certificate.rpartition(sha256)
    bent = ocsp.OcspSigner.load(good.key, inside + sha384 + outside)
    with pytest.raises(ConfigError, match="isn't of its CA"):
        bent.check_issuer(authority.subject, authority.spki)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048", "ed25519"])
def test_certificate_with_any_bit_changed_is_not_the_cas(kind):
    good = signer(issuer_kind=kind)
    while good.certificate[-1] & 1:  # only then a count of unused bits would be DER, too
        good = signer(issuer_kind=kind)
    authority = outline(issuing_ca(kind).certificate)
    good.check_issuer(authority.subject, authority.spki)
    for bit in range(8 * len(good.certificate)):
        bent = bytearray(good.certificate)
        bent[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ConfigError):
            ocsp.OcspSigner.load(good.key, bytes(bent)).check_issuer(
                authority.subject, authority.spki
            )


# Requests by hand, each with one thing wrong.

SHA1 = der.sequence(der.oid("1.3.14.3.2.26"), der.NULL)


def cert_id(*, algorithm=SHA1, name=bytes(20), key=bytes(20), serial=b"\x02\x01\x05", more=b""):
    return der.sequence(algorithm, der.octet_string(name), der.octet_string(key), serial, more)


def by_hand(*ids, version=b"", requestor=b"", single=b"", extensions=b"", signature=b""):
    requests = der.sequence(*(der.sequence(each, single) for each in ids or (cert_id(),)))
    return der.sequence(der.sequence(version, requestor, requests, extensions), signature)


def extension(dotted, value, *, critical=False):
    return der.extension(dotted, value, critical=critical)


def single_extensions(*encoded):
    return der.context(0, der.sequence(*encoded), constructed=True)


FALSE_CRITICAL = der.sequence(der.oid("1.2.3"), b"\x01\x01\x00", der.octet_string(b""))


def request_extensions(*encoded):
    return der.context(2, der.sequence(*encoded), constructed=True)


NONCE = "1.3.6.1.5.5.7.48.1.2"


@pytest.mark.parametrize(
    "data",
    [
        by_hand(),
        by_hand(version=b"\xa0\x03\x02\x01\x00"),
        by_hand(requestor=der.context(1, b"\xa4\x02\x30\x00", constructed=True)),
        by_hand(signature=der.context(0, b"\x30\x00", constructed=True)),
        by_hand(single=single_extensions(extension("1.2.3", b"x"))),
        by_hand(extensions=request_extensions(extension("1.2.3", b"x"))),
        by_hand(
            extensions=request_extensions(extension(NONCE, der.octet_string(b"n"), critical=True))
        ),
        by_hand(*[cert_id()] * 20),
        by_hand(cert_id(algorithm=der.sequence(der.oid("1.3.14.3.2.26")))),
        by_hand(cert_id(serial=der.integer(-5))),
    ],
)
def test_request_within_rfc_6960_is_read(data):
    assert ocsp.parse_request(data).cert_ids


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        b"\x30\x02\x30\x00",
        b"GET /",
        by_hand() + b"\x00",
        by_hand(version=b"\xa0\x03\x02\x01\x01"),
        by_hand(signature=b"\x30\x00"),
        by_hand(signature=der.context(0, b"", constructed=True) * 2),
        der.sequence(der.sequence(der.sequence())),
        der.sequence(der.sequence(der.octet_string(b""))),
        der.sequence(der.sequence(der.sequence(der.integer(5)))),
        der.sequence(der.sequence(der.sequence(der.sequence(der.integer(5))))),
        by_hand(*[cert_id()] * 21),
        by_hand(cert_id(name=bytes(19))),
        by_hand(cert_id(algorithm=der.sequence())),
        by_hand(cert_id(algorithm=der.sequence(der.NULL))),
        by_hand(cert_id(algorithm=der.sequence(b"\x06\x01\x80"))),
        by_hand(cert_id(algorithm=der.sequence(der.oid("1.2.3"), der.NULL, der.NULL))),
        by_hand(cert_id(algorithm=SHA1[2:])),
        by_hand(cert_id(key=bytes(32))),
        by_hand(cert_id(serial=der.integer(1 << 160))),
        by_hand(cert_id(serial=b"\x02\x02\x00\x01")),
        by_hand(cert_id(serial=b"\x04\x01\x01")),
        by_hand(cert_id(more=der.NULL)),
        by_hand(single=der.context(1, der.sequence(), constructed=True)),
        by_hand(single=single_extensions(extension("1.2.3", b"", critical=True))),
        by_hand(extensions=request_extensions(extension("1.2.3", b"", critical=True))),
        by_hand(extensions=request_extensions(extension("1.2.3", b"") * 2)),
        by_hand(
            extensions=request_extensions(*(extension(f"1.2.{arc}", b"") for arc in range(11)))
        ),
        by_hand(extensions=request_extensions(extension(NONCE, b"raw"))),
        by_hand(extensions=request_extensions(der.NULL)),
        by_hand(extensions=request_extensions(FALSE_CRITICAL)),
        by_hand(extensions=der.context(3, der.sequence(), constructed=True)),
        by_hand(extensions=request_extensions() * 2),
        b"\x30\x82\x20\x00" + bytes(8192),
    ],
)
def test_request_beyond_rfc_6960_or_the_limits_is_refused(data):
    with pytest.raises(RequestRefused) as refused:
        ocsp.parse_request(data)
    assert refused.value.field == "ocsp_request"


def test_cut_and_flipped_requests_are_refused_or_read():
    whole = request(issued_leaf(), nonce=b"n" * 16)
    for at in range(len(whole)):
        with pytest.raises(RequestRefused):
            ocsp.parse_request(whole[:at])
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            try:
                ocsp.parse_request(bytes(flipped))
            except RequestRefused:
                continue
