"""OCSP from the store: right for every serial, at once after a change, and never a wrong good."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from node_agent.errors import StoreError, TokenError, Unavailable
from node_agent.functions import answer_renewal
from node_agent.functions import responder as responder_module
from node_agent.functions.responder import Responder
from node_agent.functions.signers import ActiveSigner
from node_agent.objects import SignerSpec
from node_agent.peers.operations import CertifySignerRequest, EnrollRequest
from node_agent.pki.own_csr import prepare_csr
from node_agent.web.backends import OcspAnswer, RevocationOrder
from tests.support.csrs import csr_der, pkilint_ocsp
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

UNAUTHORIZED = b"\x30\x03\x0a\x01\x06"
MALFORMED = b"\x30\x03\x0a\x01\x01"


class OneSigner:
    """Stands for ``Signers``: the signer of one CA, or none."""

    def __init__(self, name: str, active: ActiveSigner) -> None:
        self._name = name
        self.found: ActiveSigner | None = active

    def active(self, authority: str) -> ActiveSigner | None:
        """Return the signer when it is this CA's."""
        return self.found if authority == self._name else None


@dataclass
class Serving:
    """A responder that shares the store of its CA, and the CA."""

    own: OwnAuthority
    responder: Responder
    signers: OneSigner
    issuer: x509.Certificate

    async def issue(self, number: int = 1) -> x509.Certificate:
        """Return a new certificate."""
        csr = csr_der(names=[f"dns:{number}.example.org"])
        request = EnrollRequest(authority="issuing", profile="server", csr=csr)
        answer = await self.own.service.enroll(context(number=number), request)
        return x509.load_der_x509_certificate(answer.chain[0])

    async def ask(self, *serials: int, nonce: bytes | None = None) -> OcspAnswer:
        """Ask as a client does, by way of the cache."""
        return await self.ask_raw(request_for(self.issuer, serials, nonce=nonce))

    async def ask_raw(self, request: bytes) -> OcspAnswer:
        """Ask with these very bytes."""
        kept = self.responder.cached_response(request)
        return kept.answer if kept else await self.responder.ocsp_response(request)

    async def revoke(self, serial: int) -> None:
        """Revoke at the CA and tell the responder, as the node does."""
        order = RevocationOrder(reason="keyCompromise")
        await self.own.service.revoke_locally("issuing", serial, order, caller="local")
        for authority, changed in self.own.statuses:
            self.responder.drop(authority, changed)


def request_for(
    issuer: x509.Certificate, serials: Sequence[int], *, nonce: bytes | None = None
) -> bytes:
    """Return a DER request; several serials are put together by hand."""
    from node_agent.pki import der

    parts = []
    for serial in serials:
        builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
            *_hashes(issuer), serial, hashes.SHA1()
        )
        whole = builder.build().public_bytes(ocsp_der())
        _, start, end = der.read(whole)
        _, start, end = der.read(whole, start)
        _, start, end = der.read(whole, start)
        parts.append(whole[start:end])
    body = der.sequence(b"".join(parts))
    if nonce is not None:
        extension = der.extension("1.3.6.1.5.5.7.48.1.2", der.octet_string(nonce))
        body += der.context(2, der.sequence(extension), constructed=True)
    return der.sequence(der.tlv(der.SEQUENCE, body))


def ocsp_der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def _hashes(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    digest = hashes.Hash(hashes.SHA1())
    digest.update(issuer.subject.public_bytes())
    key = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest
    return digest.finalize(), key


@asynccontextmanager
async def serving(
    directory: Path,
    unknown_serial: Literal["unknown", "unauthorized", "revoked", "good"] | None = "unknown",
) -> AsyncIterator[Serving]:
    """Yield a responder for the CA ``issuing`` with a signer that the CA certified."""
    async with own_authority(directory) as own:
        token = own.tokens.shared("default")
        token.generate("signer", "ec-p256", created_at=0)
        key = token.key("signer")
        csr = prepare_csr(key, "signer")
        proven = csr.complete(key.sign(csr.info))
        request = CertifySignerRequest(authority="issuing", csr=proven)
        answer = await own.service.certify_signer(context("va1", number=999), request)
        spec = SignerSpec(name="s", authority="issuing", unknown_serial=unknown_serial)
        signers = OneSigner("issuing", ActiveSigner(spec, key, answer.chain[0]))
        responder = Responder(
            store=own.store,
            known=own.known,
            signers=signers,
            pool=own.pool,
            clock=own.clock,
            health=lambda: "ok",
        )
        issuer = x509.load_der_x509_certificate(own.authorities.get("issuing").chain[0])
        try:
            yield Serving(own, responder, signers, issuer)
        finally:
            await responder.close()


def status_of(answer: OcspAnswer) -> str:
    response = ocsp.load_der_ocsp_response(answer.der)
    assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return response.certificate_status.name.lower()


def test_good_is_kept_and_becomes_revoked_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            assert status_of(first) == "good"
            assert await va.ask(serial) is first
            await va.revoke(serial)
            assert status_of(await va.ask(serial)) == "revoked"

    run(scenario())


def test_a_change_while_an_answer_is_made_is_not_kept_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            has_read, may_go_on = asyncio.Event(), asyncio.Event()
            read = va.own.store.certificate_state

            async def slow(authority: str, number: int) -> object:
                record = await read(authority, number)
                has_read.set()
                await may_go_on.wait()
                return record

            monkeypatch.setattr(va.own.store, "certificate_state", slow)
            making = asyncio.create_task(va.ask(serial))
            await has_read.wait()
            va.responder.drop(va.own.authority_id(), serial)
            may_go_on.set()
            assert status_of(await making) == "good"
            assert len(va.responder._cache) == 0

    run(scenario())


def test_an_answer_is_made_anew_before_it_ends_and_is_given_until_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            age(va, first, 0.95)
            assert [await va.ask(serial) for _ in range(5)] == [first] * 5
            again = await renewed(va, serial, first)
            assert again.last_modified > first.last_modified
            assert va.responder.answers["signed"] == 2, "one renewal for five requests"

    run(scenario())


def test_an_answer_that_would_end_on_its_way_is_made_anew_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            age(va, first, 0.999)
            again = await va.ask(serial)
            assert again.last_modified > first.last_modified

    run(scenario())


@pytest.mark.parametrize("part", [0.95, 0.999])
def test_a_flood_that_must_be_signed_takes_no_valid_answer_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            age(va, first, part)
            may_sign = asyncio.Event()
            monkeypatch.setattr(va.own.pool, "sign", waiting_for(may_sign, va.own.pool.sign))
            monkeypatch.setattr(responder_module, "_MOST_SIGNINGS", 3)
            async with asyncio.TaskGroup() as tasks:
                flood = [tasks.create_task(va.ask(n, nonce=b"n" * 16)) for n in range(1, 4)]
                await asyncio.sleep(0)
                assert await va.ask(serial) is first
                may_sign.set()
            assert {status_of(task.result()) for task in flood} == {"unknown"}

    run(scenario())


def test_a_signer_that_hangs_takes_no_valid_answer_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            never = asyncio.Event()
            monkeypatch.setattr(va.own.pool, "sign", waiting_for(never, va.own.pool.sign))
            monkeypatch.setattr(responder_module, "_PATIENCE_SECONDS", 0.01)
            for part in (0.95, 0.999):
                age(va, first, part)
                assert await va.ask(serial) is first

    run(scenario())


def test_a_renewal_that_hangs_or_fails_is_tried_again_and_not_at_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def failing(*_: object) -> bytes:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        raise TokenError("the token is locked")

    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            sign = va.own.pool.sign
            monkeypatch.setattr(va.own.pool, "sign", failing)
            monkeypatch.setattr(answer_renewal, "_DEADLINE_SECONDS", 0.01)
            age(va, first, 0.95)
            for times in (1, 2):
                for _ in range(5):
                    assert await va.ask(serial) is first
                    await background(va)
                assert asked == times
                va.own.clock.advance(1)
            monkeypatch.setattr(va.own.pool, "sign", sign)
            await renewed(va, serial, first)

    run(scenario())


def test_a_revocation_replaces_an_answer_that_is_being_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            may_sign, sign = asyncio.Event(), va.own.pool.sign
            monkeypatch.setattr(va.own.pool, "sign", waiting_for(may_sign, sign))
            age(va, first, 0.95)
            assert await va.ask(serial) is first
            await asyncio.sleep(0.01)
            monkeypatch.setattr(va.own.pool, "sign", sign)
            await va.revoke(serial)
            assert status_of(await va.ask(serial)) == "revoked"
            may_sign.set()
            await background(va)
            assert status_of(await va.ask(serial)) == "revoked"

    run(scenario())


def test_what_may_not_be_answered_any_more_is_dropped_by_its_renewal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            first = await va.ask(serial)
            va.signers.found = None
            age(va, first, 0.95)
            await va.ask(serial)
            await background(va)
            assert (await va.ask(serial)).der == UNAUTHORIZED

    run(scenario())


def test_no_answer_of_the_future_is_given_in_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> bytes:
        raise TokenError("the token is locked")

    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            await va.ask(serial)
            monkeypatch.setattr(va.own.pool, "sign", broken)
            va.own.clock.step(-3600)
            with pytest.raises(Unavailable):
                await va.ask(serial)

    run(scenario())


def age(va: Serving, answer: OcspAnswer, part: float) -> None:
    """Let time go on to where ``part`` of the answer's life is over."""
    assert answer.expires_at is not None
    life = answer.expires_at - answer.last_modified
    va.own.clock.advance(answer.last_modified + life * part - va.own.clock.now())


async def renewed(va: Serving, serial: int, old: OcspAnswer) -> OcspAnswer:
    """Ask until there is another answer, and return it."""
    while (found := await va.ask(serial)) is old:
        await background(va)
    return found


async def background(va: Serving) -> None:
    """Wait until nothing is being renewed."""
    while tasks := va.responder._renewal._tasks:
        await asyncio.wait(tasks)


def waiting_for(event: asyncio.Event, sign: Any) -> Any:
    """Return a ``sign`` that waits for ``event`` first."""

    async def slow(*arguments: Any) -> bytes:
        await event.wait()
        signature: bytes = await sign(*arguments)
        return signature

    return slow


def test_a_nonce_is_repeated_and_its_answer_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            answer = await va.ask(serial, nonce=b"n" * 16)
            response = ocsp.load_der_ocsp_response(answer.der)
            nonce = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
            assert nonce == b"n" * 16
            assert answer.expires_at is None
            assert len(va.responder._cache) == 0

    run(scenario())


def test_several_certificates_are_answered_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            good, bad = (await va.issue(1)).serial_number, (await va.issue(2)).serial_number
            await va.revoke(bad)
            response = ocsp.load_der_ocsp_response((await va.ask(good, bad, 77)).der)
            words = [item.certificate_status.name for item in response.responses]
            assert words == ["GOOD", "REVOKED", "UNKNOWN"]

    run(scenario())


@pytest.mark.parametrize(("policy", "expected"), [("unknown", "unknown"), ("revoked", "revoked")])
def test_an_unknown_serial_is_answered_by_policy(
    tmp_path: Path, policy: Literal["unknown", "revoked"], expected: str
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, policy) as va:
            assert status_of(await va.ask(4711)) == expected

    run(scenario())


@pytest.mark.parametrize(
    ("policy", "is_partial", "expected"),
    [
        ("good", False, "unknown"),
        (None, False, "unknown"),
        ("good", True, "good"),
        ("unknown", True, "unknown"),
        (None, True, "unauthorized"),
    ],
)
def test_silence_is_good_only_where_somebody_chose_so_and_the_rest_is_revoked(
    tmp_path: Path, policy: Literal["good", "unknown"] | None, is_partial: bool, expected: str
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, policy) as va:
            known = va.responder._known.named("issuing")
            assert known is not None
            va.responder._known._file(replace(known, is_partial=is_partial))
            answer = await va.ask(4711)
            if expected == "unauthorized":
                assert answer.der == UNAUTHORIZED
            else:
                assert status_of(answer) == expected

    run(scenario())


def test_an_unknown_serial_may_be_refused_unsigned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, "unauthorized") as va:
            assert (await va.ask(4711)).der == UNAUTHORIZED

    run(scenario())


def test_another_ca_or_no_signer_is_unauthorized(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            root = x509.load_der_x509_certificate(va.own.authorities.get("root").chain[0])
            assert (await va.ask_raw(request_for(root, [1]))).der == UNAUTHORIZED
            va.signers.found = None
            assert (await va.ask(1)).der == UNAUTHORIZED

    run(scenario())


def test_a_malformed_request_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            assert (await va.ask_raw(b"\x30\x80nonsense")).der == MALFORMED

    run(scenario())


def test_a_failing_store_serves_what_is_still_valid_and_nothing_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreError("the disk is gone")

    async def scenario() -> None:
        async with serving(tmp_path) as va:
            known = (await va.issue(1)).serial_number
            answer = await va.ask(known)
            assert answer.expires_at is not None
            age(va, answer, 0.95)
            monkeypatch.setattr(va.own.store, "certificate_state", broken)
            assert await va.ask(known) is answer
            with pytest.raises(Unavailable):
                await va.ask(4711)
            va.own.clock.advance(3600)
            with pytest.raises(Unavailable):
                await va.ask(known)

    run(scenario())


def test_a_failing_signer_serves_what_is_still_valid_and_nothing_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise TokenError("the token is locked")

    async def scenario() -> None:
        async with serving(tmp_path) as va:
            known = (await va.issue(1)).serial_number
            answer = await va.ask(known)
            assert answer.expires_at is not None
            age(va, answer, 0.95)
            monkeypatch.setattr(va.own.pool, "sign", broken)
            assert await va.ask(known) is answer
            with pytest.raises(Unavailable):
                await va.ask(4711)
            va.responder.drop(va.own.authority_id(), known)
            with pytest.raises(Unavailable):
                await va.ask(known)

    run(scenario())


def test_what_waits_for_a_signature_is_bounded_and_the_rest_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sign = asyncio.Event()

    async def scenario() -> None:
        async with serving(tmp_path) as va:
            sign = va.own.pool.sign

            async def slow(*arguments: Any) -> bytes:
                await may_sign.wait()
                return await sign(*arguments)

            monkeypatch.setattr(va.own.pool, "sign", slow)
            monkeypatch.setattr(responder_module, "_MOST_SIGNINGS", 3)
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(va.ask(n, nonce=b"n" * 16)) for n in range(1, 4)]
                await asyncio.sleep(0)
                with pytest.raises(Unavailable, match="too many"):
                    await va.ask(4)
                may_sign.set()
            assert {status_of(task.result()) for task in waiting} == {"unknown"}
            assert status_of(await va.ask(4)) == "unknown"
            assert va.responder.answers["try_later"] == 1

    run(scenario())


def test_answers_pass_pkilint_and_verify_against_the_ca(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            serial = (await va.issue()).serial_number
            answer = await va.ask(serial)
            assert pkilint_ocsp(answer.der) == []
            response = ocsp.load_der_ocsp_response(answer.der)
            signer = response.certificates[0]
            signer.verify_directly_issued_by(va.issuer)
            from cryptography.hazmat.primitives.asymmetric import ec

            key = signer.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))

    run(scenario())


def test_crl_and_issuer_certificate_are_downloads_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as va:
            assert await va.responder.crl("issuing", delta=False) is None
            await va.own.crls.make_if_due("issuing")
            first = await va.responder.crl("issuing", delta=False)
            assert first is not None
            assert await va.responder.crl("issuing", delta=False) is first
            va.own.crls.want("issuing")
            await va.own.crls.make_if_due("issuing")
            va.responder.drop_crl(va.own.authority_id())
            again = await va.responder.crl("issuing", delta=False)
            assert again is not None
            assert again.etag != first.etag
            issuer = await va.responder.issuer_certificate("issuing")
            assert issuer is not None
            assert issuer.data == va.own.authorities.get("issuing").chain[0]
            assert await va.responder.issuer_certificate("nothing") is None
            assert await va.responder.crl("nothing", delta=False) is None

    run(scenario())
