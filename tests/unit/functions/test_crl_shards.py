"""A CA's CRL in parts: certificates name theirs for life, and only what changed is made anew.

OpenSSL says whether a list speaks for a certificate, pkilint whether it is well made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import ConfigError
from node_agent.peers.operations import EnrollRequest, RevokeRequest, serial_octets
from tests.support.csrs import csr_der, pem, pkilint_crl
from tests.support.event_loop import run
from tests.support.openssl import openssl
from tests.support.own_authority import AUTHORITIES, NOW, OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://va.example.org/crl/issuing.crl"


def authorities(shards: int, *, crl_urls: tuple[str, ...] = (URL,), **crl: Any) -> dict[str, Any]:
    *others, issuing = AUTHORITIES["certification_authorities"]
    divided = {**issuing, "crl_urls": crl_urls, "crl": {"shards": shards, **crl}}
    return {**AUTHORITIES, "certification_authorities": [*others, divided]}


async def enroll(own: OwnAuthority, number: int) -> x509.Certificate:
    request = EnrollRequest(
        authority="issuing", profile="server", csr=csr_der(names=[f"dns:{number}.example.org"])
    )
    answer = await own.service.enroll(context(number=number), request)
    return x509.load_der_x509_certificate(answer.chain[0])


async def enroll_in_each_shard(own: OwnAuthority, shards: int) -> dict[int, x509.Certificate]:
    """Enrol until each shard has a certificate: which one it is follows from a random serial."""
    found: dict[int, x509.Certificate] = {}
    number = 0
    while len(found) < shards:
        number += 1
        certificate = await enroll(own, number)
        found.setdefault(certificate.serial_number % shards + 1, certificate)
    return found


async def revoke(own: OwnAuthority, certificate: x509.Certificate, reason: int = 1) -> None:
    serial = serial_octets(certificate.serial_number)
    order = RevokeRequest(authority="issuing", serial=serial, reason=reason)
    await own.service.revoke(context(), order)


def url_of(certificate: x509.Certificate) -> str:
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert len(points) == 1
    assert points[0].full_name is not None
    return str(points[0].full_name[0].value)


async def newest(own: OwnAuthority, shard: int, *, delta: bool = False) -> bytes:
    record = await own.store.latest_crl(own.authority_id(), shard=shard, delta=delta)
    assert record is not None
    return record.der


def judged(own: OwnAuthority, directory: Path, certificate: x509.Certificate, *crls: bytes) -> str:
    """Return what OpenSSL says of a certificate with these lists at hand."""
    issuer = own.authorities.get("issuing").chain[0]
    leaf = certificate.public_bytes(Encoding.PEM)
    (directory / "leaf.pem").write_bytes(leaf)
    (directory / "issuer.pem").write_bytes(pem("CERTIFICATE", issuer))
    (directory / "crls.pem").write_bytes(b"".join(pem("X509 CRL", crl) for crl in crls))
    return openssl(
        *("verify", "-crl_check", "-extended_crl", "-use_deltas", "-x509_strict"),
        *("-partial_chain", "-attime", str(int(own.clock.now()) + 1)),
        *("-trusted", directory / "issuer.pem", "-CRLfile", directory / "crls.pem"),
        directory / "leaf.pem",
        check=False,
    )


def test_each_certificate_is_judged_by_the_list_that_it_names(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path, **authorities(3)) as own:
            certificates = await enroll_in_each_shard(own, 3)
            await revoke(own, certificates[2])
            await own.crls.make_if_due("issuing")
            lists = {shard: await newest(own, shard) for shard in range(4)}
            for shard, certificate in certificates.items():
                assert url_of(certificate) == f"http://va.example.org/crl/issuing/{shard}.crl"
                said = judged(own, tmp_path, certificate, lists[shard])
                assert "certificate revoked" in said if shard == 2 else "leaf.pem: OK" in said
            for shard in (0, 1, 3):
                said = judged(own, tmp_path, certificates[2], lists[shard])
                assert "different CRL scope" in said or "unable to get certificate CRL" in said
            assert [pkilint_crl(crl) for crl in lists.values()] == [[]] * 4

    run(scenario())


def test_only_the_touched_shard_is_made_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path, **authorities(3)) as own:
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == 4
            certificates = await enroll_in_each_shard(own, 3)
            for count, reason in ((5, 6), (6, 8)):
                await revoke(own, certificates[3], reason)
                await own.crls.make_if_due("issuing")
                assert len(own.made_crls) == count
                assert own.made_crls[-1] == await newest(own, 3)
            numbers = [
                x509.load_der_x509_crl(await newest(own, shard))
                .extensions.get_extension_for_class(x509.CRLNumber)
                .value.crl_number
                for shard in range(4)
            ]
            assert numbers == [1, 1, 1, 3]

    run(scenario())


def test_each_shard_is_made_anew_when_its_overlap_begins(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path, **authorities(2)) as own:
            await own.crls.make_if_due("issuing")
            spec = own.authorities.get("issuing").spec.crl
            own.clock.advance(spec.validity_seconds - spec.overlap_seconds - 1)
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == 3
            own.clock.advance(2)
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == 6

    run(scenario())


def test_more_shards_leave_older_certificates_where_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path, **authorities(0)) as own:
            undivided = await enroll(own, 1)
            assert url_of(undivided) == URL
            await own.crls.make_if_due("issuing")
            await own.apply(certification_authorities=authorities(2)["certification_authorities"])
            older = await enroll(own, 2)
            shard = older.serial_number % 2 + 1
            await own.apply(certification_authorities=authorities(5)["certification_authorities"])
            for certificate in (undivided, older):
                await revoke(own, certificate)
            await own.crls.make_if_due("issuing")
            for certificate, number in ((undivided, 0), (older, shard)):
                made = await newest(own, number)
                assert "certificate revoked" in judged(own, tmp_path, certificate, made)
                assert len(x509.load_der_x509_crl(made)) == 1

    run(scenario())


def test_each_shard_has_its_own_delta(tmp_path: Path) -> None:
    async def scenario() -> None:
        kinds = authorities(2, delta_validity_seconds=3600)
        async with own_authority(tmp_path, **kinds) as own:
            await own.crls.make_if_due("issuing")
            certificates = await enroll_in_each_shard(own, 2)
            made = len(own.made_crls)
            await revoke(own, certificates[1])
            await own.crls.make_if_due("issuing")
            assert len(own.made_crls) == made + 1
            for shard, certificate in certificates.items():
                base, delta = await newest(own, shard), await newest(own, shard, delta=True)
                assert pkilint_crl(base) == pkilint_crl(delta) == []
                freshest = x509.load_der_x509_crl(base).extensions.get_extension_for_class(
                    x509.FreshestCRL
                )
                names = freshest.value[0].full_name
                assert names is not None
                assert names[0].value == f"http://va.example.org/crl/issuing/{shard}-delta.crl"
                assert "leaf.pem: OK" in judged(own, tmp_path, certificate, base)
                said = judged(own, tmp_path, certificate, base, delta)
                assert "certificate revoked" in said if shard == 1 else "leaf.pem: OK" in said

    run(scenario())


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (authorities(-1), "must be from 0 to 256"),
        (authorities(257), "must be from 0 to 256"),
        (authorities(2, crl_urls=()), "needs crl_urls"),
        (authorities(2, crl_urls=("http://va.example.org/list",)), "needs crl_urls"),
    ],
)
def test_shards_that_cant_be_are_refused(
    tmp_path: Path, kinds: dict[str, Any], message: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match=message):
            async with own_authority(tmp_path, **kinds):
                pass

    run(scenario())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (authorities(2), "can't be lowered"),
        (authorities(3, crl_urls=("http://va2.example.org/crl/issuing.crl",)), "lacks http://va."),
    ],
)
def test_lists_that_certificates_name_stay(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    async def scenario() -> None:
        async with own_authority(tmp_path, **authorities(3)) as own:
            with pytest.raises(ConfigError, match=message):
                await own.apply(certification_authorities=changed["certification_authorities"])

    run(scenario())


def test_a_clock_that_is_set_back_dates_no_list_before_the_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        kinds = authorities(0, delta_validity_seconds=3600)
        async with own_authority(tmp_path, **kinds) as own:
            await own.crls.make_if_due("issuing")
            certificate = await enroll(own, 1)
            own.clock.step(-86_400)
            await revoke(own, certificate)
            await own.crls.make_if_due("issuing")
            delta = x509.load_der_x509_crl(await newest(own, 0, delta=True))
            # A second later: two lists of one address never have one date.
            assert delta.last_update_utc.timestamp() == NOW + 1
            assert delta.get_revoked_certificate_by_serial_number(certificate.serial_number)
            full = await own.crls.make("issuing")
            assert full.this_update == NOW + 1

    run(scenario())
