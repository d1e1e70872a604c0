"""Signed requests and answers: what holds, and each way in which it doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from node_agent.errors import ConfigError, HandshakeError, PolicyDenied
from node_agent.net import IdentityHolder, TlsIdentity
from node_agent.peers.envelope import (
    MAX_VIAS,
    AnswerBody,
    RequestBody,
    SignedAnswer,
    SignedRequest,
    VerifiedRequest,
    add_via,
    body_digest_of,
    read_answer,
    read_request,
    sign_answer,
    sign_request,
)
from node_agent.peers.signature import PeerCertificates, sign, verify
from tests.support.clock import ManualClock
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.identity import PeerIdentity

METHOD = "ra.enroll"
REQUEST_ID = b"i" * 16


class Parties:
    """An origin and a receiver under one Management CA, on one clock."""

    def __init__(self, key: Any = None) -> None:
        self.clock = ManualClock(now=_now())
        self.authority = ThrowawayAuthority(clock=self.clock)
        self.origin = self.holder("ra1", key=key)
        self.receiver = self.holder("ca1")
        self.certificates = PeerCertificates(self.receiver)

    def holder(self, name: str, *, key: Any = None, crls: Any = ()) -> IdentityHolder:
        private_key, certificate = self.authority.authenticator(name, key=key)
        return IdentityHolder(
            TlsIdentity(
                private_key=private_key,
                chain=[certificate, *self.authority.chain],
                trust_anchors=[self.authority.root.certificate],
                crls=crls,
                clock=self.clock,
            )
        )

    def request(self, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "method": METHOD,
            "request_id": REQUEST_ID,
            "audience": "ca/issuing",
            "requester": "alice",
            "payload": b"payload",
            "lifetime_seconds": 30,
        }
        return sign_request(self.origin, **{**fields, **changes}).message

    def read(self, message: bytes, **changes: Any) -> VerifiedRequest:
        fields: dict[str, Any] = {
            "certificates": self.certificates,
            "method": METHOD,
            "request_id": REQUEST_ID,
            "now": self.clock.now(),
        }
        return read_request(message, **{**fields, **changes})

    def resigned(self, change: Callable[[RequestBody], RequestBody]) -> bytes:
        """Return a request whose body was changed before the origin signed it."""
        signed = msgspec.msgpack.decode(self.request(), type=SignedRequest)
        body = change(msgspec.msgpack.decode(signed.body, type=RequestBody))
        return self.signed_bytes(msgspec.msgpack.encode(body))

    def signed_bytes(self, body: bytes, label: bytes = b"peersys/1 request\x00") -> bytes:
        current = self.origin.current
        signature = sign(current.private_key, label + body)
        return msgspec.msgpack.encode(SignedRequest(body, signature, current.chain_der))


def _now() -> float:
    import time

    return time.time()


KEYS: dict[str, Callable[[], Any]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_signed_request_and_its_answer_hold_for_every_kind_of_key(kind: str) -> None:
    parties = Parties(KEYS[kind]())
    read = parties.read(parties.request())
    assert read.origin.node.name == "ra1"
    assert read.body.payload == b"payload"
    assert read.body.requester == "alice"
    assert read.via == ()
    answer = sign_answer(parties.origin, body_digest=bytes(32), status=0, payload=b"yes")
    verified = read_answer(
        answer, certificates=parties.certificates, body_digest=bytes(32), status=0
    )
    assert verified.payload == b"yes"
    assert verified.signer.node.name == "ra1"


def test_ed25519_signs_and_verifies() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert verify(key.public_key(), sign(key, b"data"), b"data")
    assert not verify(key.public_key(), sign(key, b"data"), b"Data")


def test_keys_that_peers_cannot_verify_are_refused() -> None:
    with pytest.raises(ConfigError, match="authenticator"):
        sign(ec.generate_private_key(ec.SECP256K1()), b"data")
    odd = ec.generate_private_key(ec.SECP256K1()).public_key()
    assert not verify(odd, b"", b"data")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "ra.revoke"}, "the frame says 'ra.revoke'"),
        ({"request_id": b"j" * 16}, "different request ids"),
    ],
)
def test_the_frame_must_say_what_the_envelope_says(changes: dict[str, Any], reason: str) -> None:
    parties = Parties()
    with pytest.raises(PolicyDenied, match=reason):
        parties.read(parties.request(), **changes)


@pytest.mark.parametrize(
    ("later", "lifetime", "holds"),
    [
        (0, 30, True),
        (-59, 30, True),
        (-62, 30, False),
        (30 + 58, 30, True),
        (30 + 63, 30, False),
        (300 + 58, 3000, True),
        (300 + 63, 3000, False),
    ],
)
def test_a_request_is_good_for_its_lifetime_and_a_minute_of_clock_skew(
    later: float, lifetime: float, holds: bool
) -> None:
    parties = Parties()
    message = parties.request(lifetime_seconds=lifetime)
    now = parties.clock.now() + later
    if holds:
        parties.read(message, now=now)
    else:
        with pytest.raises(PolicyDenied, match="clocks differ"):
            parties.read(message, now=now)


@pytest.mark.parametrize("lifetime", [-1, 0, 301, 10**9])
def test_a_lifetime_beyond_five_minutes_or_none_is_refused(lifetime: int) -> None:
    parties = Parties()
    message = parties.resigned(
        lambda body: msgspec.structs.replace(body, expires_at=body.issued_at + lifetime)
    )
    with pytest.raises(PolicyDenied, match="lifetime"):
        parties.read(message)


def test_an_unknown_version_is_refused() -> None:
    parties = Parties()
    message = parties.resigned(lambda body: msgspec.structs.replace(body, version=2))
    with pytest.raises(PolicyDenied, match="version 2"):
        parties.read(message)


@pytest.mark.parametrize("requester", ["alice via ra9", "a\nb", "x" * 129, "ä"])
def test_a_requester_that_would_forge_the_audit_line_is_refused(requester: str) -> None:
    parties = Parties()
    with pytest.raises(PolicyDenied, match="can't be read"):
        parties.read(parties.request(requester=requester))


def test_every_changed_byte_of_the_body_or_signature_breaks_it() -> None:
    parties = Parties()
    signed = msgspec.msgpack.decode(parties.request(), type=SignedRequest)
    for part in ("body", "signature"):
        octets = getattr(signed, part)
        for index in range(len(octets)):
            changed = octets[:index] + bytes([octets[index] ^ 1]) + octets[index + 1 :]
            message = msgspec.msgpack.encode(msgspec.structs.replace(signed, **{part: changed}))
            with pytest.raises(PolicyDenied):
                parties.read(message)


def test_anothers_certificate_on_a_request_breaks_it() -> None:
    parties = Parties()
    other = parties.holder("ra2")
    signed = msgspec.msgpack.decode(parties.request(), type=SignedRequest)
    forged = msgspec.structs.replace(signed, chain=other.current.chain_der)
    with pytest.raises(PolicyDenied, match="signature isn't valid"):
        parties.read(msgspec.msgpack.encode(forged))


def test_an_answers_signature_is_none_over_a_request() -> None:
    parties = Parties()
    signed = msgspec.msgpack.decode(parties.request(), type=SignedRequest)
    message = parties.signed_bytes(signed.body, label=b"peersys/1 answer\x00")
    with pytest.raises(PolicyDenied, match="signature isn't valid"):
        parties.read(message)


def test_a_stranger_is_refused() -> None:
    parties, strangers = Parties(), Parties()
    with pytest.raises(PolicyDenied, match="certificate isn't valid"):
        parties.read(strangers.request())


def test_a_revoked_origin_is_refused_as_soon_as_the_crl_is_there() -> None:
    parties = Parties()
    message = parties.request()
    parties.read(message)
    crl = parties.authority.crl(revoked=[parties.origin.current.certificate])
    current = parties.receiver.current
    parties.receiver.replace(
        TlsIdentity(
            private_key=current.private_key,
            chain=current.chain,
            trust_anchors=current.trust_anchors,
            crls=[crl],
            clock=parties.clock,
        )
    )
    with pytest.raises(PolicyDenied, match="revoked"):
        parties.read(message)


def test_a_certificate_that_expires_is_refused_though_it_was_verified_before() -> None:
    parties = Parties()
    key, certificate = parties.authority.authenticator("ra1", not_after_seconds=100)
    parties.origin.replace(
        TlsIdentity(
            private_key=key,
            chain=[certificate],
            trust_anchors=[parties.authority.certificate],
            clock=parties.clock,
        )
    )
    parties.read(parties.request())
    parties.clock.step(101)
    with pytest.raises(PolicyDenied, match="certificate isn't valid"):
        parties.read(parties.request())


def test_a_certificate_is_verified_once_a_minute_and_again_after_a_change_of_trust() -> None:
    parties = Parties()
    counted = 0
    real = parties.receiver.verify_peer

    def counting(chain: Any) -> PeerIdentity:
        nonlocal counted
        counted += 1
        return real(chain)

    parties.receiver.verify_peer = counting  # type: ignore[method-assign]
    for _ in range(3):
        parties.read(parties.request())
    assert counted == 1
    parties.clock.advance(61)
    parties.read(parties.request())
    assert counted == 2
    parties.receiver.replace(parties.receiver.current)
    parties.read(parties.request())
    assert counted == 3


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x00", b"\xc1", b"\x94", b"\x91\xc4\x00", msgspec.msgpack.encode({"body": b""})],
)
def test_what_is_no_request_is_refused_and_has_an_empty_digest(junk: bytes) -> None:
    parties = Parties()
    with pytest.raises(PolicyDenied, match="can't be read"):
        parties.read(junk)
    assert body_digest_of(junk) == bytes(32)


def test_content_digest_is_of_what_is_asked_not_of_when() -> None:
    parties = Parties()
    first = parties.read(parties.request())
    parties.clock.advance(5)
    again = parties.read(parties.request())
    assert first.body_digest != again.body_digest
    assert first.content_digest == again.content_digest
    for change in ({"payload": b"other"}, {"requester": "bob"}):
        assert parties.read(parties.request(**change)).content_digest != first.content_digest


def test_each_hop_adds_its_link_peer_and_the_signature_still_holds() -> None:
    parties = Parties()
    proxies = [parties.holder(f"proxy{number}") for number in (1, 2)]
    identities = [parties.receiver.verify_peer(proxy.current.chain_der) for proxy in proxies]
    message = parties.request()
    read = parties.read(message)
    # The first hop's link peer is the origin itself: nothing to add.
    message = add_via(read, read.origin)
    assert parties.read(message).via == ()
    for identity in identities:
        message = add_via(parties.read(message), identity)
    passed = parties.read(message).via
    assert [via.node.name for via in passed] == ["proxy1", "proxy2"]
    assert passed[0].fingerprint_sha256 == identities[0].fingerprint_sha256


def test_a_loop_ends_at_the_nesting_depth() -> None:
    parties = Parties()
    proxy = parties.receiver.verify_peer(parties.holder("proxy1").current.chain_der)
    message = parties.request()
    for _ in range(MAX_VIAS):
        message = add_via(parties.read(message), proxy)
    with pytest.raises(PolicyDenied, match="passed 10 nodes"):
        add_via(parties.read(message), proxy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body_digest": b"x" * 32}, "to another request"),
        ({"status": 1}, "different statuses"),
    ],
)
def test_an_answer_is_bound_to_its_request_and_its_frame(
    change: dict[str, Any], reason: str
) -> None:
    parties = Parties()
    answer = sign_answer(parties.origin, body_digest=bytes(32), status=0, payload=b"")
    expected: dict[str, Any] = {"body_digest": bytes(32), "status": 0, **change}
    with pytest.raises(HandshakeError, match=reason):
        read_answer(answer, certificates=parties.certificates, **expected)


def test_a_forged_answer_is_refused() -> None:
    parties = Parties()
    answer = sign_answer(parties.origin, body_digest=bytes(32), status=0, payload=b"yes")
    signed = msgspec.msgpack.decode(answer, type=SignedAnswer)
    body = msgspec.msgpack.encode(AnswerBody(1, bytes(32), 0, b"no!"))
    for junk in (b"", msgspec.msgpack.encode(msgspec.structs.replace(signed, body=body))):
        with pytest.raises(HandshakeError):
            read_answer(junk, certificates=parties.certificates, body_digest=bytes(32), status=0)
