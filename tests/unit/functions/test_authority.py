"""The CA's operations on a real store: exactly once, final, nothing for whoever has no right."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography import x509

from node_agent.errors import (
    Conflict,
    CsrRefused,
    NotFound,
    PolicyDenied,
    ProfileViolation,
    QuotaExceeded,
    RequestRefused,
)
from node_agent.functions import authority
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.operations import (
    CatalogueAnswer,
    CatalogueRequest,
    CertificateAnswer,
    CertifySignerRequest,
    EnrollRequest,
    RevokeAnswer,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
    serial_octets,
)
from node_agent.policy import parse_roles
from node_agent.store.records import CertificateStatus
from node_agent.web.backends import RevocationOrder
from node_agent.wire.settings import WireSettings
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from pathlib import Path


def enrol_request(name: str = "www.example.org", **changes: object) -> EnrollRequest:
    csr = csr_der(names=[f"dns:{name}"])
    fields = {"authority": "issuing", "profile": "server", "csr": csr, **changes}
    return EnrollRequest(**fields)  # type: ignore[arg-type]


def serial_of(answer: CertificateAnswer) -> int:
    return x509.load_der_x509_certificate(answer.chain[0]).serial_number


def test_an_enrolment_is_committed_with_its_audit_entry_and_log_entry(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            answer = await own.service.enroll(context(), enrol_request())
            serial = serial_of(answer)
            record = await own.store.certificate(own.authority_id(), serial)
            assert record is not None
            assert (record.requester, record.origin) == ("tester", "spiffe://test.example/node/ra1")
            entries = await own.store.changes(0, limit=100, authority_ids=[own.authority_id()])
            assert [entry.kind for entry in entries] == ["authority", "certificate"]
            audit = (await own.store.audit_entries())[-1].record
            assert audit.detail["serial"] == f"{serial:x}"
            chain = [x509.load_der_x509_certificate(der) for der in answer.chain]
            chain[0].verify_directly_issued_by(chain[1])
            assert len(chain) == 2

    run(scenario())


def test_a_repeated_request_id_returns_the_certificate_even_when_the_profile_has_changed(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            request = enrol_request()
            first = await own.service.enroll(context(number=1), request)
            await own.apply(
                certificate_profiles=[
                    {"name": "server", "san": [{"kind": "dns", "pattern": "other"}]}
                ]
            )
            again = await own.service.enroll(context(number=1), request)
            assert (again.repeated, again.chain) == (True, first.chain)
            with pytest.raises(ProfileViolation):
                await own.service.enroll(context(number=2), request)

    run(scenario())


def test_a_request_that_comes_over_another_ra_returns_the_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            request = enrol_request()
            first = await own.service.enroll(context("ra1", number=1), request)
            again = await own.service.enroll(context("ra2", number=1), request)
            assert (again.repeated, again.chain) == (True, first.chain)
            other = await own.service.enroll(context("ra2", number=1, content=b"other"), request)
            assert not other.repeated

    run(scenario())


def test_a_request_id_used_for_something_else_is_a_conflict(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            await own.service.enroll(context(number=1, content=b"one"), enrol_request())
            with pytest.raises(Conflict):
                await own.service.enroll(
                    context(number=1, content=b"two"), enrol_request("b.example.org")
                )

    run(scenario())


def test_the_same_request_id_of_another_ra_is_another_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            one = await own.service.enroll(context("ra1"), enrol_request())
            two = await own.service.enroll(context("ra2"), enrol_request())
            assert serial_of(one) != serial_of(two)

    run(scenario())


@pytest.mark.parametrize("authority", ["management", "root", "nothing"])
def test_a_ca_that_is_offline_or_not_for_peers_is_not_there(tmp_path: Path, authority: str) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            for call in (
                own.service.enroll(context(), enrol_request(authority=authority)),
                own.service.status(context(), StatusRequest(authority=authority, serial=b"\x01")),
                own.service.search(context(), SearchRequest(authority=authority)),
                own.service.revoke(context(), RevokeRequest(authority=authority, serial=b"\x01")),
                own.service.certify_signer(
                    context("va1"), CertifySignerRequest(authority=authority, csr=csr_der())
                ),
            ):
                with pytest.raises(NotFound):
                    await call

    run(scenario())


def test_a_refused_request_leaves_no_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            before = await own.store.last_position()
            with pytest.raises(CsrRefused):
                await own.service.enroll(context(), enrol_request(csr=b"no CSR"))
            with pytest.raises(RequestRefused, match="no profile"):
                await own.service.enroll(context(), enrol_request(profile="other"))
            assert await own.store.last_position() == before

    run(scenario())


def test_an_ra_gets_no_certificate_for_names_that_are_not_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        role = PeerRoleSpec(
            name="ra1", members=("spiffe://test.example/node/ra1",), names=("dns:example.org",)
        )
        asker = replace(context(), roles=parse_roles([role]))
        async with own_authority(tmp_path) as own:
            before = await own.store.last_position()
            with pytest.raises(PolicyDenied, match=r"peer_roles/ra1: names\[0\]"):
                await own.service.enroll(asker, enrol_request("www.example.com"))
            assert await own.store.last_position() == before
            await own.service.enroll(asker, enrol_request("www.example.org"))

    run(scenario())


async def issued_serial(own: OwnAuthority, number: int = 1) -> int:
    answer = await own.service.enroll(
        context(number=number), enrol_request(f"{number}.example.org")
    )
    return serial_of(answer)


def test_a_revocation_is_final_and_asking_twice_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = await issued_serial(own)
            request = RevokeRequest(authority="issuing", serial=serial_octets(serial), reason=1)
            first = await own.service.revoke(context(), request)
            again = await own.service.revoke(context(), request)
            assert (first.changed, again.changed) == (True, False)
            assert again.revoked_at == first.revoked_at
            assert own.statuses == [(own.authority_id(), serial)]
            release = RevokeRequest(authority="issuing", serial=serial_octets(serial), reason=8)
            with pytest.raises(Conflict):
                await own.service.revoke(context(), release)

    run(scenario())


def test_a_request_is_carried_out_once_whatever_happened_since(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = await issued_serial(own)

            async def ask(number: int, reason: int) -> RevokeAnswer:
                request = RevokeRequest(
                    authority="issuing", serial=serial_octets(serial), reason=reason
                )
                asked = context(number=number, content=bytes([reason]))
                return await own.service.revoke(asked, request)

            hold, release = 6, 8
            held = await ask(1, hold)
            unchanged = await ask(2, hold)
            assert (held.changed, unchanged.changed) == (True, False)
            assert (await ask(3, release)).status == "good"
            assert await ask(1, hold) == held
            assert not (await ask(2, hold)).changed
            stored = await own.store.certificate(own.authority_id(), serial)
            assert stored is not None
            assert stored.status == "good"
            with pytest.raises(Conflict, match="another request"):
                await ask(3, 1)

    run(scenario())


def test_an_unknown_reason_or_serial_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = serial_octets(await issued_serial(own))
            with pytest.raises(RequestRefused):
                await own.service.revoke(
                    context(), RevokeRequest(authority="issuing", serial=serial, reason=7)
                )
            with pytest.raises(NotFound):
                await own.service.revoke(
                    context(), RevokeRequest(authority="issuing", serial=b"\x01")
                )

    run(scenario())


def test_a_page_of_a_search_fits_an_answer_however_large_certificates_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = await issued_serial(own)
            record = await own.store.certificate(own.authority_id(), serial)
            assert record is not None
            large = [
                replace(record, serial=number, der=number.to_bytes(2, "big") * 3700)
                for number in range(1, 1000)
            ]
            await own.store.apply_published("x", 1, certificates=large)
            found: list[int] = []
            pages, after = 0, None
            while pages == 0 or after is not None:
                request = SearchRequest(authority="issuing", limit=1000, after=after)
                answer = await own.service.search(context(), request)
                octets = len(msgspec.msgpack.encode(answer))
                assert octets < WireSettings().max_message_bytes - 64 * 1024, (
                    "it is signed, with a chain"
                )
                found += [int.from_bytes(item.serial, "big") for item in answer.certificates]
                pages, after = pages + 1, answer.after
            assert pages == 4
            assert len(found) == len(set(found)) == 1000

    run(scenario())


def test_a_catalogue_comes_in_pages_that_fit_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"ca{number}" for number in range(5)]

    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            await own.apply(
                certification_authorities=[
                    {"name": name, "kind": "root", "subject": f"CN={name}"} for name in names
                ]
            )
            allowed = parse_roles(
                [
                    PeerRoleSpec(
                        name="ra",
                        members=("spiffe://test.example/node/ra1",),
                        rules=(AccessRule(resource="/ca/*"),),
                    )
                ]
            )
            asker = context(roles=allowed)
            whole = await own.service.catalogue(asker, CatalogueRequest())
            assert whole.after is None
            monkeypatch.setattr(authority, "_PAGE_OCTETS", 2 * len(whole.authorities[0].chain[0]))
            pages = [await own.service.catalogue(asker, CatalogueRequest())]
            while pages[-1].after is not None:
                request = CatalogueRequest(after=pages[-1].after)
                pages.append(await own.service.catalogue(asker, request))
            assert len(pages) > 2
            assert all(page.authorities for page in pages)
            offers = tuple(offer for page in pages for offer in page.authorities)
            assert offers == whole.authorities
            assert set(names) <= {offer.name for offer in offers}

    run(scenario())


def test_one_page_is_asked_for_and_answered_as_ever() -> None:
    """Nodes of before know no pages, and take no field that they don't know."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(CatalogueRequest())) == {}
    answer = msgspec.msgpack.encode(CatalogueAnswer(authorities=()))
    assert msgspec.msgpack.decode(answer) == {"authorities": []}


@pytest.mark.parametrize("at", [-1, 253402300800, 10**17])
def test_an_invalidity_date_that_no_crl_can_write_is_refused(tmp_path: Path, at: int) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = await issued_serial(own)
            with pytest.raises(RequestRefused) as refused:
                await own.service.revoke(
                    context(),
                    RevokeRequest(
                        authority="issuing", serial=serial_octets(serial), invalidity_at=at
                    ),
                )
            assert refused.value.field == "invalidity_at"
            with pytest.raises(RequestRefused):
                await own.service.revoke_locally(
                    "issuing", serial, RevocationOrder(invalidity_at=at), caller="local"
                )
            record = await own.store.certificate(own.authority_id(), serial)
            assert record is not None
            assert record.status is CertificateStatus.GOOD

    run(scenario())


@pytest.mark.parametrize(
    "position", [[10**17, "a", "5"], [-1, "a", "5"], [1, "a", "-5"], [1, "a", "f" * 41]]
)
def test_a_search_position_beyond_all_bounds_is_refused(
    tmp_path: Path, position: list[int | str]
) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            after = base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()
            with pytest.raises(RequestRefused) as refused:
                await own.service.search(context(), SearchRequest(authority="issuing", after=after))
            assert refused.value.field == "after"

    run(scenario())


def test_a_local_revocation_reaches_the_management_ca_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serial = await issued_serial(own)
            order = RevocationOrder(reason="superseded")
            outcome = await own.service.revoke_locally("issuing", serial, order, caller="local")
            assert (outcome.changed, outcome.status, outcome.reason) == (
                True,
                "revoked",
                "superseded",
            )
            with pytest.raises(NotFound):
                await own.service.revoke_locally("management", 5, order, caller="local")

    run(scenario())


def test_a_search_pages_through_everything_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serials = {await issued_serial(own, number) for number in range(1, 8)}
            found: list[bytes] = []
            after: str | None = None
            while True:
                page = await own.service.search(
                    context(), SearchRequest(authority="issuing", limit=3, after=after)
                )
                found += [item.serial for item in page.certificates]
                if page.after is None:
                    break
                after = page.after
            assert sorted(found) == sorted(map(serial_octets, serials))

    run(scenario())


def test_a_search_for_no_status_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            with pytest.raises(RequestRefused, match="not a status"):
                await own.service.search(
                    context(), SearchRequest(authority="issuing", status="lost")
                )

    run(scenario())


def test_a_signer_is_certified_for_ocsp_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            answer = await own.service.certify_signer(
                context("va1"), CertifySignerRequest(authority="issuing", csr=csr_der())
            )
            certificate = x509.load_der_x509_certificate(answer.chain[0])
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            assert [item.dotted_string for item in usage] == ["1.3.6.1.5.5.7.3.9"]
            certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
            record = await own.store.certificate(own.authority_id(), certificate.serial_number)
            assert record is not None
            assert record.status is CertificateStatus.GOOD

    run(scenario())


def test_a_node_has_so_many_valid_signers_of_a_ca_and_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:

            async def certify(node: str, number: int) -> CertificateAnswer:
                request = CertifySignerRequest(authority="issuing", csr=csr_der())
                return await own.service.certify_signer(context(node, number=number), request)

            outcomes = await asyncio.gather(
                *(certify("va1", number) for number in range(20)), return_exceptions=True
            )
            issued = [item for item in outcomes if isinstance(item, CertificateAnswer)]
            assert len(issued) == 8
            refused = [item for item in outcomes if not isinstance(item, CertificateAnswer)]
            assert {type(item) for item in refused} == {QuotaExceeded}
            assert (await certify("va2", 100)).chain
            # What was issued is issued still, when its request comes again.
            number = next(n for n, item in enumerate(outcomes) if item is issued[0])
            again = await certify("va1", number)
            assert (again.chain, again.repeated) == (issued[0].chain, True)
            certificate = x509.load_der_x509_certificate(issued[0].chain[0])
            order = RevocationOrder(reason="superseded", invalidity_at=None)
            await own.service.revoke_locally(
                "issuing", certificate.serial_number, order, caller="uid 0"
            )
            assert (await certify("va1", 101)).chain

    run(scenario())
