"""TLS identities: what fits together, what is refused, and where the key never goes."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import ConfigError, HandshakeError
from node_agent.net import IdentityHolder, TlsIdentity
from node_agent.net.crls import next_update_of
from node_agent.net.tls import node_identity_of
from tests.support.clock import ManualClock
from tests.support.pki import ThrowawayAuthority, certificate_pem

if TYPE_CHECKING:
    from tests.support.pki import PrivateKey

AUTHORITY = ThrowawayAuthority()


def test_an_identity_knows_its_node() -> None:
    identity = AUTHORITY.tls_identity("ra1")
    assert identity.node.uri == "spiffe://test.example/node/ra1"
    assert identity.certificate == identity.chain[0]


def test_a_peer_is_what_its_certificate_says() -> None:
    key, certificate = AUTHORITY.authenticator("ca1")
    peer = AUTHORITY.holder("ra1").verify_peer([identity_of(key, certificate).chain_der[0]])
    assert peer.node.name == "ca1"
    assert peer.serial == certificate.serial_number
    assert peer.issuer == AUTHORITY.certificate.subject.rfc4514_string()
    assert peer.not_after == certificate.not_valid_after_utc.timestamp()
    assert len(peer.fingerprint_sha256) == len(peer.spki_sha256) == 64


def identity_of(key: PrivateKey, certificate: x509.Certificate) -> TlsIdentity:
    return TlsIdentity(private_key=key, chain=[certificate], trust_anchors=[AUTHORITY.certificate])


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p384", "rsa2048", "ed25519"],
)
def test_contexts_are_made_for_every_kind_of_key(key: PrivateKey) -> None:
    identity = AUTHORITY.tls_identity("ra1", key=key)
    for context in (identity.client_context, identity.server_context):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert identity.server_context.num_tickets == 0


def test_the_key_never_reaches_a_file_system_or_memory_file_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[tuple[str, bytes, bytes]] = []

    load = ssl.SSLContext.load_cert_chain

    def record(context: ssl.SSLContext, certfile: str, *, password: bytes) -> None:
        with open(certfile, "rb") as file:
            loaded.append((os.readlink(certfile), file.read(), password))
        load(context, certfile, password=password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", record)
    identity = AUTHORITY.tls_identity("ra1")
    before = len(os.listdir("/proc/self/fd"))
    assert identity.client_context is not identity.server_context
    assert len(os.listdir("/proc/self/fd")) == before
    for where, content, password in loaded:
        assert where.startswith("/memfd:")
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
        assert b"BEGIN PRIVATE KEY" not in content
        assert len(password) == 64
    assert loaded[0][2] != loaded[1][2], "each load has a password of its own"


def test_a_certificate_of_another_key_is_refused() -> None:
    _, certificate = AUTHORITY.authenticator("ra1")
    key, _ = AUTHORITY.authenticator("ra1")
    with pytest.raises(ConfigError, match="isn't for the authenticator's key"):
        identity_of(key, certificate)


def test_an_identity_needs_a_certificate_and_trust() -> None:
    key, certificate = AUTHORITY.authenticator("ra1")
    with pytest.raises(ConfigError, match="has no certificate"):
        TlsIdentity(private_key=key, chain=[], trust_anchors=[AUTHORITY.certificate])
    with pytest.raises(ConfigError, match="are missing"):
        TlsIdentity(private_key=key, chain=[certificate], trust_anchors=[])


def test_a_crl_that_no_trusted_authority_signed_is_refused() -> None:
    foreign = ThrowawayAuthority()  # the same name, another key
    with pytest.raises(ConfigError, match="no trusted CA signed it"):
        AUTHORITY.tls_identity("ra1", crls=[foreign.crl()])


def test_a_crl_that_cannot_be_used_is_refused() -> None:
    delta = AUTHORITY.crl(extra_extensions=[(x509.DeltaCRLIndicator(1), True)])
    with pytest.raises(ConfigError, match="isn't understood"):
        AUTHORITY.tls_identity("ra1", crls=[delta])


def test_an_overdue_crl_still_revokes_and_says_when_it_ended() -> None:
    clock = ManualClock(now=AUTHORITY.clock.now())
    key, certificate = AUTHORITY.authenticator("ca1")
    crl = AUTHORITY.crl([certificate], next_update_seconds=100)
    identity = AUTHORITY.tls_identity("ra1", crls=[crl], clock=clock)
    assert next_update_of(identity.crls) == pytest.approx(clock.now() + 100, abs=1)
    clock.advance(200)
    with pytest.raises(HandshakeError, match="revoked"):
        identity.verify_peer(identity_of(key, certificate).chain_der)


def test_from_pem_reads_what_an_operator_writes() -> None:
    key, certificate = AUTHORITY.authenticator("ra1")
    identity = TlsIdentity.from_pem(
        private_key=key,
        chain=certificate_pem(certificate),
        trust_anchors=[certificate_pem(AUTHORITY.certificate)],
        crls=[AUTHORITY.crl().public_bytes(Encoding.PEM).decode()],
    )
    assert identity.node.name == "ra1"


@pytest.mark.parametrize("part", ["chain", "trust_anchors", "crls"])
def test_from_pem_names_the_part_that_cannot_be_read(part: str) -> None:
    key, certificate = AUTHORITY.authenticator("ra1")
    parts = {
        "chain": certificate_pem(certificate),
        "trust_anchors": [certificate_pem(AUTHORITY.certificate)],
        "crls": [],
        part: "junk" if part == "chain" else ["junk"],
    }
    where = "certificate" if part == "chain" else part
    with pytest.raises(ConfigError) as caught:
        TlsIdentity.from_pem(private_key=key, **parts)  # type: ignore[arg-type]
    assert caught.value.where == f"authenticator: {where}"


URI = x509.UniformResourceIdentifier


@pytest.mark.parametrize(
    "san",
    [
        (),
        (x509.DNSName("ra1.test.example"),),
        (URI("https://test.example/node/ra1"),),
        (URI("spiffe://test.example/ra1"),),
        (URI("spiffe://test.example/node/ra1/extra"),),
        (URI("spiffe://TEST.example/node/ra1"),),
        (URI("spiffe://test.example/node/ra1"), URI("spiffe://test.example/node/ca1")),
        (URI("spiffe://test.example/node/ra1"), URI("https://test.example/")),
    ],
)
def test_a_certificate_that_does_not_name_just_one_node_is_refused(
    san: tuple[x509.GeneralName, ...],
) -> None:
    _, certificate = AUTHORITY.authenticator("ra1", san=san)
    with pytest.raises(HandshakeError):
        node_identity_of(certificate)


def test_own_certificate_without_a_node_is_a_config_error() -> None:
    key, certificate = AUTHORITY.authenticator("ra1", san=())
    with pytest.raises(ConfigError):
        identity_of(key, certificate)


@pytest.mark.parametrize("chain", [[], [b""], [b"\x30\x03\x02\x01\x01"]])
def test_what_is_no_certificate_is_a_handshake_error(chain: list[bytes]) -> None:
    with pytest.raises(HandshakeError):
        AUTHORITY.holder("ra1").verify_peer(chain)


def test_subscribers_hear_of_each_replacement_until_they_leave() -> None:
    holder = IdentityHolder(AUTHORITY.tls_identity("ra1"))
    heard: list[int] = []
    leave = holder.subscribe(lambda: heard.append(holder.generation))
    holder.replace(AUTHORITY.tls_identity("ra1"))
    leave()
    leave()
    holder.replace(AUTHORITY.tls_identity("ra1"))
    assert heard == [2]
    assert holder.generation == 3
