"""Key kinds: generation, both ways to sign, and what is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import keys
from tests.support.csrs import issuing_ca, key_of_kind, root_ca


@pytest.mark.parametrize("kind", keys.KEY_KINDS)
def test_each_kind_signs_and_its_public_half_verifies(kind):
    key = keys.LocalKey.of(key_of_kind(kind))
    assert key.kind == kind
    signature = key.sign(b"message")
    assert keys.verify(key.spki, signature, b"message")
    assert not keys.verify(key.spki, signature, b"another")


@pytest.mark.parametrize("kind", [kind for kind in keys.KEY_KINDS if kind != "ed25519"])
def test_signature_of_a_digest_is_a_signature_of_the_message(kind):
    key = keys.LocalKey.of(key_of_kind(kind))
    digest = keys.start_digest(kind, key.spki)
    assert digest is not None
    for part in (b"a long ", b"message"):
        digest.update(part)
    assert keys.verify(key.spki, key.sign_digest(digest.finalize()), b"a long message")


def test_ed25519_has_no_digest_form():
    key = keys.LocalKey.of(key_of_kind("ed25519"))
    assert keys.start_digest("ed25519", key.spki) is None
    with pytest.raises(ConfigError, match="whole message"):
        key.sign_digest(bytes(64))


@pytest.mark.parametrize("kind", keys.KEY_KINDS)
def test_algorithm_identifier_is_what_the_certificate_says(kind):
    certificate = x509.load_der_x509_certificate(root_ca(kind).certificate)
    assert certificate.signature_algorithm_oid.dotted_string in _dotted(kind)
    certificate.verify_directly_issued_by(certificate)


def _dotted(kind):
    from node_agent.pki import der

    identifier = der.read_all(keys.algorithm_identifier(kind), der.SEQUENCE)
    return [der.decode_oid(identifier[2 : 2 + identifier[1]])]


def test_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="ec-p256"):
        keys.generate_key("dsa-1024")


@pytest.mark.parametrize(
    "private_key",
    [
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
        dsa.generate_private_key(2048),
    ],
    ids=["secp256k1", "rsa-1024", "dsa"],
)
def test_other_keys_have_no_kind(private_key):
    with pytest.raises(RequestRefused) as refused:
        keys.key_kind_of(private_key.public_key())
    assert refused.value.field == "key"
    with pytest.raises(RequestRefused):
        keys.load_spki(
            private_key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


def test_octets_that_are_no_key_are_refused():
    with pytest.raises(RequestRefused, match="can't be read"):
        keys.load_spki(b"\x30\x00")


def test_only_fast_signatures_are_cheap():
    cheap = [kind for kind in keys.KEY_KINDS if keys.is_cheap(kind)]
    assert cheap == ["ec-p256", "ec-p384", "ec-p521", "ed25519"]


def test_key_does_not_print_itself():
    assert repr(keys.LocalKey.of(key_of_kind())) == "LocalKey(ec-p256)"
    assert issuing_ca().key.kind in repr(issuing_ca().key)
