"""CRLs: made for a new CA, on revocation, before the last one ends; numbers only ever grow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cryptography import x509

from node_agent.peers.operations import EnrollRequest, RevokeRequest, serial_octets
from tests.support.csrs import csr_der, pkilint_crl
from tests.support.event_loop import run
from tests.support.own_authority import AUTHORITIES, OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def revoked_serial(own: OwnAuthority, number: int, reason: int = 1) -> int:
    request = EnrollRequest(
        authority="issuing", profile="server", csr=csr_der(names=[f"dns:{number}.example.org"])
    )
    answer = await own.service.enroll(context(number=number), request)
    serial = x509.load_der_x509_certificate(answer.chain[0]).serial_number
    await own.service.revoke(
        context(),
        RevokeRequest(authority="issuing", serial=serial_octets(serial), reason=reason),
    )
    return serial


async def current(own: OwnAuthority, *, delta: bool = False) -> x509.CertificateRevocationList:
    record = await own.store.latest_crl(own.authority_id(), delta=delta)
    assert record is not None
    return x509.load_der_x509_crl(record.der)


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_new_ca_gets_an_empty_crl_and_no_second_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            for _ in range(3):
                await own.crls.make_if_due("issuing")
            crl = await current(own)
            assert (number_of(crl), len(crl), len(own.made_crls)) == (1, 0, 1)

    run(scenario())


def test_a_revocation_is_on_the_next_crl_which_lints_clean(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            await own.crls.make_if_due("issuing")
            serial = await revoked_serial(own, 1)
            await own.crls.make_if_due("issuing")
            crl = await current(own)
            entry = crl.get_revoked_certificate_by_serial_number(serial)
            assert entry is not None
            assert number_of(crl) == 2
            assert pkilint_crl(own.made_crls[-1]) == []
            issuing = x509.load_der_x509_certificate(own.authorities.get("issuing").chain[0])
            assert crl.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]

    run(scenario())


def test_a_date_that_an_older_version_recorded_keeps_no_crl_from_being_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            serials = [await revoked_serial(own, number) for number in (1, 2)]
            for serial, at in zip(serials, (10**17, 253402300800), strict=True):
                with own.store._writing.begin() as connection:
                    connection.exec_driver_sql(
                        "UPDATE certificates SET invalidity_at = ? WHERE serial = ?",
                        (at, serial.to_bytes(20, "big")),
                    )
            await own.crls.make_if_due("issuing")
            crl = await current(own)
            for serial in serials:
                entry = crl.get_revoked_certificate_by_serial_number(serial)
                assert entry is not None
                assert [item.value.oid for item in entry.extensions] == [x509.CRLReason.oid]
            assert pkilint_crl(own.made_crls[-1]) == []

    run(scenario())


def test_a_crl_is_made_anew_when_its_overlap_begins(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            await own.crls.make_if_due("issuing")
            spec = own.authorities.get("issuing").spec.crl
            own.clock.advance(spec.validity_seconds - spec.overlap_seconds - 10)
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == 1
            own.clock.advance(20)
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == 2

    run(scenario())


def test_delta_crls_name_their_base_and_list_what_changed_since(tmp_path: Path) -> None:
    async def scenario() -> None:
        kinds = {**AUTHORITIES}
        root, issuing = kinds["certification_authorities"][1:]
        crl_spec = {"delta_validity_seconds": 3600}
        kinds["certification_authorities"] = [root, {**issuing, "crl": crl_spec}]
        async with own_authority(tmp_path, **kinds) as own:
            old = await revoked_serial(own, 1)
            own.clock.advance(600)
            await own.crls.make_if_due("issuing")
            own.clock.advance(10)
            held = await revoked_serial(own, 2, reason=6)
            await own.crls.make_if_due("issuing")
            base, delta = await current(own), await current(own, delta=True)
            indicator = delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value
            assert indicator.crl_number == number_of(base)
            assert base.get_revoked_certificate_by_serial_number(old) is not None
            assert delta.get_revoked_certificate_by_serial_number(old) is None
            assert delta.get_revoked_certificate_by_serial_number(held) is not None
            own.clock.advance(10)
            release = RevokeRequest(authority="issuing", serial=serial_octets(held), reason=8)
            await own.service.revoke(context(), release)
            await own.crls.make_if_due("issuing")
            delta = await current(own, delta=True)
            entry = delta.get_revoked_certificate_by_serial_number(held)
            assert entry is not None
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
            assert reason is x509.ReasonFlags.remove_from_crl

    run(scenario())


def test_one_ca_whose_crl_fails_unexpectedly_keeps_no_other_from_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own, asyncio.TaskGroup() as tasks:
            begin, broken = own.store.begin_crl, own.authority_id()

            async def begin_crl(authority_id: str, **options: Any) -> Any:
                if authority_id == broken:
                    raise OverflowError("a row that nobody thought of")
                return await begin(authority_id, **options)

            monkeypatch.setattr(own.store, "begin_crl", begin_crl)
            task = tasks.create_task(own.crls.run())
            while len(own.made_crls) < 2 or not own.crls.last_error:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert list(own.crls.last_error) == ["issuing"]
            assert "OverflowError" in own.crls.last_error["issuing"]
            broken = ""
            own.clock.advance(10)
            own.crls.want("issuing")
            while len(own.made_crls) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while own.crls.last_error:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            task.cancel()

    run(scenario())


def test_the_task_makes_every_crl_and_goes_on_after_revocations(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own, asyncio.TaskGroup() as tasks:
            task = tasks.create_task(own.crls.run())
            seen = 0
            while len(own.made_crls) < 3:
                await own.changed.wait(seen, 5)
                seen = own.changed.count
            await revoked_serial(own, 1)
            while len(own.made_crls) < 4:
                await own.changed.wait(seen, 5)
                seen = own.changed.count
            assert own.crls.last_error == {}
            task.cancel()

    run(scenario())


def test_two_lists_of_one_address_have_two_dates(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path) as own:
            lists = [await own.crls.make("issuing") for _ in range(3)]
            dates = [one.this_update for one in lists]
            assert dates == [dates[0], dates[0] + 1, dates[0] + 2]
            assert dates[-1] <= own.clock.now(), "a list is of the future"
            own.clock.step(-3600)
            assert (await own.crls.make("issuing")).this_update == dates[-1] + 1

    run(scenario())
