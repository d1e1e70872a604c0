"""Signers certify and renew themselves, whatever their CA remembers and becomes of them."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import StoreError, Unavailable
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.node_objects import NodeObjects, SignerState, decode_state
from node_agent.functions.signers import Signers
from node_agent.functions.tokens import Tokens
from node_agent.objects import CryptoTokenSpec
from node_agent.peers.approval_messages import Waiting
from node_agent.peers.operations import CertificateAnswer, CertifySignerRequest, EnrollRequest
from node_agent.pki.csr import parse_csr
from node_agent.web.backends import RevocationOrder
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

DAY = 86400
# What a CA looks at to know of a certificate and its request. (Its logs can't be cut.)
TRACES = ("certificate_names", "certificates", "status_requests")


@dataclass
class ToCa:
    """Stands for ``PeerCalls`` and for ``Upstreams``: asks the CA in this process."""

    own: OwnAuthority
    is_away: bool = False
    instead: Callable[[CertificateAnswer], Awaitable[CertificateAnswer]] | None = None
    requests: list[Any] = field(default_factory=list)

    async def call(self, operation: object, request: Any, **_: object) -> Any:
        """Have a signer certified. Raises Unavailable while the CA is away."""
        self.requests.append(request)
        if self.is_away:
            raise Unavailable("no link to the CA")
        answer = await self.own.service.certify_signer(context("va1"), request)
        return answer if self.instead is None else await self.instead(answer)

    def serving(self, authority: str) -> list[Any]:
        """Return whom to ask."""
        return []


@dataclass
class Va:
    """A VA's signers, in the store of its CA: what the CA does is published at once."""

    own: OwnAuthority
    calls: ToCa
    signers: Signers
    changes: list[str]

    def serial(self) -> int:
        """Return the serial number of the signer's certificate."""
        certificate = self.signers.certificate("s")
        assert certificate is not None
        return certificate.serial

    def key(self) -> bytes:
        """Return its public key."""
        active = self.signers.active("issuing")
        assert active is not None
        return active.key.spki

    async def revoke(self, reason: str = "keyCompromise") -> None:
        """Revoke the signer's certificate at the CA, which publishes it."""
        serial = self.serial()
        order = RevocationOrder(reason=reason)  # type: ignore[arg-type]
        await self.own.service.revoke_locally("issuing", serial, order, caller="local")
        self.signers.status_changed(serial)


def signers_of(own: OwnAuthority, calls: ToCa, changes: list[str]) -> Signers:
    made = Signers(
        objects=own.objects,
        tokens=own.tokens,
        pool=own.pool,
        known=own.known,
        store=own.store,
        caller=calls,
        upstreams=calls,  # type: ignore[arg-type]
        clock=own.clock,
        on_change=lambda _: changes.append("changed"),
    )
    made.configure()
    return made


@asynccontextmanager
async def certified(directory: Path) -> AsyncIterator[Va]:
    """Yield a signer that has its first certificate."""
    async with own_authority(directory) as own:
        await own.apply(signers=[{"name": "s", "authority": "issuing"}])
        calls, changes = ToCa(own), list[str]()
        va = Va(own, calls, signers_of(own, calls, changes), changes)
        assert va.signers.state("s") == "waiting"
        assert await va.signers.look_after()
        assert va.signers.state("s") == "active"
        changes.clear()
        yield va


def test_a_signer_is_renewed_ahead_of_its_end_and_not_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first, key = va.serial(), va.key()
            assert await va.signers.look_after()
            assert (va.serial(), va.changes) == (first, [])
            va.own.clock.advance(24 * DAY)
            assert await va.signers.look_after()
            assert va.serial() != first
            assert va.key() == key
            assert va.changes == ["changed"]

    run(scenario())


@pytest.mark.parametrize("days", [24, 400])
def test_a_ca_that_has_lost_every_trace_of_a_signer_renews_it(tmp_path: Path, days: int) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite3")) as store, store:
                for table in TRACES:
                    store.execute(f"DELETE FROM {table}")
            va.own.clock.advance(days * DAY)
            assert va.signers.state("s") == ("active" if days < 30 else "expired")
            assert await va.signers.look_after()
            assert va.signers.state("s") == "active"
            assert va.serial() != first

    run(scenario())


def test_a_renewal_that_fails_is_told_when_time_gets_short(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            va.calls.is_away = True
            va.own.clock.advance(24 * DAY)
            assert not await va.signers.look_after()
            assert va.signers.overdue("s") is None, "there are six days left"
            va.own.clock.advance(3 * DAY)
            assert "no link to the CA" in (va.signers.overdue("s") or "")
            assert va.signers.active("issuing") is not None
            va.calls.is_away = False
            assert await va.signers.look_after()
            assert va.signers.overdue("s") is None

    run(scenario())


def test_a_revoked_signer_gets_another_key_that_survives_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            compromised = va.key()
            va.calls.is_away = True
            await va.revoke()
            for _ in range(3):
                assert not await va.signers.look_after()
                assert va.signers.state("s") == "revoked"
            asked = {request.csr for request in va.calls.requests[1:]}
            keys = {parse_csr(csr).spki for csr in asked}
            assert len(keys) == 1, "one new key, however often it has to be asked for"
            va.calls.is_away = False
            assert await va.signers.look_after()
            assert va.signers.state("s") == "active"
            fresh = va.key()
            assert fresh != compromised
            again = restarted(va, await va.own.store.objects(), await va.own.store.keys())
            again.configure()
            active = again.active("issuing")
            assert active is not None
            assert active.key.spki == fresh
            active.signer.key.sign(b"the key is there")

    run(scenario())


def restarted(va: Va, records: Any, keys: Any) -> Signers:
    """Return the signers as the next process loads them."""
    objects = NodeObjects(records)
    tokens = Tokens(b"a passphrase of the tests", keys)
    tokens.configure([CryptoTokenSpec(name="default")])
    state = decode_state(objects.get("signers", "s"), SignerState)
    assert state.key_label == "signer-s-2"
    return Signers(
        objects=objects,
        tokens=tokens,
        pool=va.own.pool,
        known=va.own.known,
        store=va.own.store,
        caller=va.calls,
        upstreams=va.calls,  # type: ignore[arg-type]
        clock=va.own.clock,
        on_change=lambda _: None,
    )


def test_a_revocation_of_before_the_start_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.calls.is_away = True
            await va.revoke()
            va.signers = signers_of(va.own, va.calls, va.changes)
            assert not await va.signers.look_after()
            assert (va.signers.state("s"), va.serial()) == ("revoked", first)

    run(scenario())


def test_a_hold_that_was_released_leaves_the_signer_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.calls.is_away = True
            await va.revoke("certificateHold")
            assert not await va.signers.look_after()
            assert va.signers.state("s") == "revoked"
            await va.revoke("removeFromCRL")
            assert await va.signers.look_after()
            assert (va.signers.state("s"), va.serial()) == ("active", first)

    run(scenario())


async def of_another_key(own: OwnAuthority) -> CertificateAnswer:
    request = CertifySignerRequest(authority="issuing", csr=csr_der())
    return await own.service.certify_signer(context("va2"), request)


async def of_a_server(own: OwnAuthority) -> CertificateAnswer:
    request = EnrollRequest(
        authority="issuing", profile="server", csr=csr_der(names=["dns:a.example.org"])
    )
    return await own.service.enroll(context(), request)


async def waiting(own: OwnAuthority) -> CertificateAnswer:
    waits = Waiting(approval=b"a" * 32, given=0, needed=1, expires_at=1)
    return CertificateAnswer(chain=(), waiting=waits)


async def no_chain(own: OwnAuthority) -> CertificateAnswer:
    return CertificateAnswer(chain=())


async def no_certificate(own: OwnAuthority) -> CertificateAnswer:
    return CertificateAnswer(chain=(b"0\x00",))


@pytest.mark.parametrize("answer", [of_another_key, of_a_server, waiting, no_chain, no_certificate])
def test_what_is_no_certificate_of_the_key_is_asked_for_again(
    tmp_path: Path, answer: Callable[[OwnAuthority], Awaitable[CertificateAnswer]]
) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.own.clock.advance(24 * DAY)
            va.calls.instead = lambda true: answer(va.own)
            assert not await va.signers.look_after()
            assert "s" in va.signers.last_error
            assert (va.serial(), va.signers.state("s")) == (first, "active")
            va.calls.instead = None
            va.own.clock.advance(2)
            assert await va.signers.look_after()
            assert va.serial() != first

    run(scenario())


@pytest.mark.parametrize("is_renamed", [False, True])
def test_another_cas_certificate_for_the_key_is_not_taken(tmp_path: Path, is_renamed: bool) -> None:
    """It has the right key and says what it is for: only the signature tells."""

    def signed_elsewhere(true: CertificateAnswer) -> CertificateAnswer:
        model = x509.load_der_x509_certificate(true.chain[0])
        builder = x509.CertificateBuilder(
            issuer_name=model.subject if is_renamed else model.issuer,
            subject_name=model.subject,
            public_key=model.public_key(),
            serial_number=model.serial_number,
            not_valid_before=model.not_valid_before_utc,
            not_valid_after=model.not_valid_after_utc,
            extensions=list(model.extensions),
        )
        forged = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        return CertificateAnswer(chain=(forged.public_bytes(Encoding.DER),))

    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.own.clock.advance(24 * DAY)

            async def instead(true: CertificateAnswer) -> CertificateAnswer:
                return signed_elsewhere(true)

            va.calls.instead = instead
            assert not await va.signers.look_after()
            assert "isn't of its CA" in va.signers.last_error["s"]
            assert va.serial() == first
            asked = len(va.calls.requests)
            assert not await va.signers.look_after()
            assert len(va.calls.requests) == asked, "each request is a certificate issued"

    run(scenario())


def test_nothing_is_issued_while_nobody_has_told_of_the_ca(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            va.own.clock.advance(24 * DAY)
            asked, known = len(va.calls.requests), va.signers._known
            va.signers._known = KnownAuthorities()
            assert not await va.signers.look_after()
            assert "is known here yet" in va.signers.last_error["s"]
            assert len(va.calls.requests) == asked
            va.signers._known = known
            assert await va.signers.look_after()

    run(scenario())


def test_a_certificate_that_has_ended_replaces_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.own.clock.advance(24 * DAY)

            async def late(true: CertificateAnswer) -> CertificateAnswer:
                va.own.clock.advance(31 * DAY)
                return true

            va.calls.instead = late
            assert not await va.signers.look_after()
            assert va.serial() == first

    run(scenario())


def test_what_nobody_foresaw_is_tried_again_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            first = va.serial()
            va.own.clock.advance(24 * DAY)

            async def broken(true: CertificateAnswer) -> CertificateAnswer:
                raise IndexError("tuple index out of range")

            va.calls.instead = broken
            assert not await va.signers.look_after()
            assert "IndexError" in va.signers.last_error["s"]
            asked = len(va.calls.requests)
            assert not await va.signers.look_after()
            assert len(va.calls.requests) == asked, "not at once"
            va.calls.instead = None
            va.own.clock.advance(2)
            assert await va.signers.look_after()
            assert va.serial() != first
            assert va.signers.last_error == {}

    run(scenario())


def test_a_signer_that_is_deleted_while_it_is_looked_after_ends_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            va.own.clock.advance(24 * DAY)

            async def deleted(true: CertificateAnswer) -> CertificateAnswer:
                await va.own.apply(signers=[], purge=True)
                return true

            va.calls.instead = deleted
            assert not await va.signers.look_after()
            assert await va.signers.look_after()

    run(scenario())


def test_a_store_that_fails_does_not_end_the_looking_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreError("the disk is gone")

    async def scenario() -> None:
        async with certified(tmp_path) as va:
            revoked = va.signers.certificate("s")
            await va.revoke()
            with monkeypatch.context() as patch:
                patch.setattr(va.own.store, "revoked_among", broken)
                assert await va.signers.look_after()
            assert va.signers.state("s") == "active", "nobody could know better"
            assert va.signers.certificate("s") == revoked
            assert await va.signers.look_after()
            assert va.signers.state("s") == "active"
            assert va.signers.certificate("s") != revoked
            assert va.changes == ["changed"]


def test_a_signer_that_can_t_be_read_keeps_no_other_from_being_looked_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(tmp_path) as va:
            revoked = va.signers.certificate("s")
            known = va.signers._active["issuing"]
            va.signers._active = {"root": replace(known, certificate=b"0"), "issuing": known}
            await va.revoke()
            assert await va.signers.look_after()
            assert va.signers.certificate("s") != revoked

    run(scenario())
