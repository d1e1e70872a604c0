"""Kept OCSP answers over the lives of signers: true, signed by who may, and not signed again for a
renewal.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.functions.known_authorities import KnownAuthorities, kept_authority
from node_agent.functions.responder import Responder
from node_agent.functions.signers import ActiveSigner
from node_agent.objects import SignerSpec
from node_agent.pki import authorities
from node_agent.pki.issue import sign
from node_agent.pki.keys import LocalKey
from node_agent.store.records import CertificateState, CertificateStatus
from tests.support.clock import ManualClock
from tests.support.csrs import NOW, issuing_ca, key_of_kind

if TYPE_CHECKING:
    from node_agent.pki.keys import SigningKey

VALIDITY, LIFE, GENERATIONS = 1000, 3000, 6
GOOD, REVOKED = CertificateStatus.GOOD, CertificateStatus.REVOKED
UNAUTHORIZED = reference.OCSPResponseStatus.UNAUTHORIZED


@functools.cache
def generation(number: int) -> tuple[SigningKey, bytes, int]:
    """Return the signer that was certified ``number`` half lives after the first: its key, its
    certificate and that one's serial number.
    """
    key = LocalKey.of(key_of_kind("ec-p256", 300))
    made = authorities.prepare_ocsp_signer(
        issuing_ca(),
        key.spki,
        common_name="OCSP signer",
        now=NOW + number * LIFE // 2,
        validity_seconds=LIFE,
    )
    certificate = sign(made).der
    return key, certificate, x509.load_der_x509_certificate(certificate).serial_number


@functools.cache
def request(serial: int) -> bytes:
    issuer = x509.load_der_x509_certificate(issuing_ca().certificate)
    digest = hashes.Hash(hashes.SHA1())
    digest.update(issuer.subject.public_bytes())
    key_id = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest
    builder = reference.OCSPRequestBuilder().add_certificate_by_hash(
        digest.finalize(), key_id, serial, hashes.SHA1()
    )
    return builder.build().public_bytes(serialization.Encoding.DER)


@dataclass
class World:
    """A VA's responder, and what is true."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(now=NOW))
    known: KnownAuthorities = field(default_factory=KnownAuthorities)
    spec: SignerSpec = field(default_factory=lambda: _spec("unknown"))
    statuses: dict[int, CertificateStatus] = field(default_factory=dict)
    current: int = 0
    signatures: int = 0
    kept: dict[int, tuple[bytes, float]] = field(default_factory=dict)
    """By serial: the answer that must be given again, and until when."""

    def __post_init__(self) -> None:
        authority = kept_authority("issuing", issuing_ca().chain, "")
        self.authority_id = authority.authority_id
        self.known.add(authority)
        self.responder = Responder(
            store=self,  # type: ignore[arg-type]
            known=self.known,
            signers=self,
            pool=self,
            clock=self.clock,
            health=lambda: "ok",
        )

    async def certificate_state(self, authority_id: str, serial: int) -> CertificateState | None:
        """Stand for the store."""
        status = self.statuses.get(serial)
        if status is None or authority_id != self.authority_id:
            return None
        return CertificateState(status, None if status is GOOD else NOW - 5, None)

    def active(self, authority: str) -> ActiveSigner | None:
        """Stand for the signers."""
        key, certificate, _ = generation(self.current)
        found = ActiveSigner(self.spec, key, certificate)
        return found if found.outline.not_after > self.clock.now() else None

    async def sign(self, key: SigningKey, data: bytes) -> bytes:
        """Stand for the pool of signing workers."""
        self.signatures += 1
        return key.sign(data)

    async def ask(self, serial: int) -> None:
        """Ask as a client does and hold the answer against what is true."""
        before = self.signatures
        kept = self.responder.cached_response(request(serial))
        der = kept.answer.der if kept else (await self.responder.ocsp_response(request(serial))).der
        expected = self.kept.get(serial)
        if expected is not None and self.clock.now() < expected[1]:
            assert (der, self.signatures) == (expected[0], before), "signed again without need"
        now, response = self.clock.now(), reference.load_der_ocsp_response(der)
        is_able = self.active("issuing") and not self.is_distrusted(generation(self.current)[2])
        if response.response_status is UNAUTHORIZED:
            assert not is_able
            return
        # What an earlier signer has signed stays true when the newest is revoked.
        assert is_able or self.signatures == before
        assert response.certificate_status.name == self.expected(serial)
        assert response.this_update_utc.timestamp() <= now
        assert response.next_update_utc is not None
        assert response.next_update_utc.timestamp() > now
        (signer,) = response.certificates
        assert not self.is_distrusted(signer.serial_number)
        assert signer.not_valid_after_utc >= response.next_update_utc
        if self.signatures > before:
            until = response.next_update_utc.timestamp()
            self.kept[serial] = (der, now + (until - now) * 0.85)

    async def renewals_done(self) -> None:
        """Wait until nothing is being made anew in the background."""
        while tasks := self.responder._renewal._tasks:
            await asyncio.wait(tasks)

    def expected(self, serial: int) -> str:
        """Return the status that must be answered."""
        status = self.statuses.get(serial)
        if status is None:
            return self.spec.unknown_serial.upper()  # type: ignore[union-attr]
        return "GOOD" if status is GOOD else "REVOKED"

    def is_distrusted(self, signer: int) -> bool:
        """Return whether a signer's certificate is revoked."""
        return self.statuses.get(signer) is REVOKED

    def learn(self, serial: int, status: CertificateStatus) -> None:
        """Take in what the CA publishes."""
        self.statuses[serial] = status
        self.responder.drop(self.authority_id, serial)
        self.kept.pop(serial, None)

    def renew(self) -> None:
        """Put the next signer in force: nothing that is kept is signed again."""
        self.current = min(self.current + 1, GENERATIONS - 1)
        self.responder.reconsider()

    def distrust(self, age: int) -> None:
        """Learn that one of the newest signers was revoked."""
        signer = generation(max(self.current - age, 0))[2]
        self.learn(signer, REVOKED)
        self.kept.clear()  # some of it may have to go; what is right is checked in any case

    def order(self, unknown_serial: str) -> None:
        """Have unknown serial numbers answered otherwise."""
        changed = _spec(unknown_serial)
        if changed != self.spec:
            self.kept.clear()
        self.spec = changed
        self.responder.reconsider()


def _spec(unknown_serial: str) -> SignerSpec:
    return SignerSpec(
        name="s",
        authority="issuing",
        validity_seconds=VALIDITY,
        unknown_serial=unknown_serial,  # type: ignore[arg-type]
    )


SERIALS = st.integers(1, 4)
STEPS = st.one_of(
    st.tuples(st.just("ask"), SERIALS),
    st.tuples(st.just("ask"), SERIALS),
    st.tuples(st.just("learn"), SERIALS, st.sampled_from([GOOD, REVOKED])),
    st.tuples(st.just("renew")),
    st.tuples(st.just("distrust"), st.integers(0, 2)),
    st.tuples(st.just("order"), st.sampled_from(["unknown", "revoked"])),
    st.tuples(st.just("advance"), st.sampled_from([1, 300, 800, 1500])),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_answers_are_true_and_signed_once_whatever_becomes_of_signers(
    steps: list[tuple[Any, ...]],
) -> None:
    async def scenario() -> None:
        world = World()
        for step, *arguments in steps:
            match step:
                case "ask":
                    await world.ask(*arguments)
                case "advance":
                    world.clock.advance(*arguments)
                case _:
                    getattr(world, step)(*arguments)
            await world.renewals_done()
        for serial in range(1, 5):
            await world.ask(serial)

    asyncio.run(scenario())


def test_a_renewal_signs_nothing_again_until_it_falls_due() -> None:
    async def scenario() -> None:
        world = World()
        for serial in range(1, 5):
            await world.ask(serial)
        world.clock.advance(VALIDITY * 0.5)
        world.renew()
        for serial in range(1, 5):
            await world.ask(serial)
        assert world.signatures == 4
        world.clock.advance(VALIDITY * 0.45)
        for serial in range(1, 5):
            await world.ask(serial)
        await world.renewals_done()
        assert world.signatures == 8

    asyncio.run(scenario())


def test_a_revoked_signer_takes_its_answers_along_and_signs_no_more() -> None:
    async def scenario() -> None:
        world = World()
        await world.ask(1)
        world.renew()
        await world.ask(2)
        world.distrust(1)
        assert world.responder.kept_answers == 1, "what the newer one has signed stays"
        world.distrust(0)
        assert world.responder.kept_answers == 0
        await world.ask(2)
        assert world.responder.answers["unauthorized"] == 1

    asyncio.run(scenario())


def test_another_ca_or_a_changed_one_costs_only_its_own_answers() -> None:
    async def scenario() -> None:
        world = World()
        await world.ask(1)
        world.responder.reconsider()
        assert world.responder.kept_answers == 1
        known = world.known.named("issuing")
        assert known is not None
        world.known._file(replace(known, is_partial=True))
        world.responder.reconsider()
        assert world.responder.kept_answers == 0

    asyncio.run(scenario())
