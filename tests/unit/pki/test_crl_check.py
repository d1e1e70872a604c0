"""A CRL checked in pieces: what the whole list's judge says, at every way of cutting it."""

from __future__ import annotations

import tracemalloc

import pytest
from cryptography import x509

from node_agent.pki import crl
from node_agent.pki.crl_check import CrlCheck, CrlFacts
from node_agent.pki.der import DerError
from node_agent.pki.keys import KEY_KINDS
from node_agent.store.records import CertificateStatus, RevokedRow
from tests.support.csrs import NOW, issuing_ca

TIMES = {"this_update": NOW, "next_update": NOW + 86400}


def entries(count: int) -> list[RevokedRow]:
    serials = (((1 << 150) + number).to_bytes(20, "big") for number in range(count))
    status = CertificateStatus.REVOKED.value
    return [(serial, status, NOW - 60, 1, None, NOW - 60) for serial in serials]


def made(kind: str = "ec-p256", count: int = 3, **fields: int) -> tuple[bytes, CrlCheck]:
    """Return a CRL and a check for its CA."""
    issuer = issuing_ca(kind)
    encoded = crl.build_crl(issuer, entries(count), **{"number": 7, **TIMES, **fields})
    return encoded, CrlCheck(issuer.name, issuer.spki)


def checked(encoded: bytes, check: CrlCheck, size: int = 1000) -> CrlFacts:
    for start in range(0, len(encoded), size):
        check.feed(encoded[start : start + size])
    return check.finish()


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("count", [0, 40])
def test_a_genuine_list_says_what_it_is(kind: str, count: int) -> None:
    encoded, check = made(kind, count)
    assert len(x509.load_der_x509_crl(encoded)) == count
    facts = checked(encoded, check)
    assert facts == CrlFacts(number=7, base_number=None, this_update=NOW, next_update=NOW + 86400)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_any_cut_gives_the_same_verdict(size: int) -> None:
    encoded, check = made(base_number=4)
    assert checked(encoded, check, size).base_number == 4


def test_every_changed_octet_is_noticed() -> None:
    encoded, _ = made(count=1)
    for index in range(len(encoded)):
        broken = bytearray(encoded)
        broken[index] ^= 1
        with pytest.raises(DerError):
            checked(bytes(broken), made(count=1)[1])


def test_lists_that_are_cut_off_or_go_on_are_refused() -> None:
    encoded, _ = made()
    for end in range(0, len(encoded), 5):
        with pytest.raises(DerError):
            checked(encoded[:end], made()[1])
    with pytest.raises(DerError, match="follow"):
        checked(encoded + b"\x00", made()[1])
    with pytest.raises(DerError):
        checked(b"\x30\x80" + b"\x00" * 70_000, made()[1])


def test_another_cas_list_is_refused() -> None:
    encoded, _ = made("ec-p256")
    with pytest.raises(DerError, match="another"):
        checked(encoded, made("ec-p384")[1])


def test_a_long_list_takes_no_memory() -> None:
    encoded, check = made(count=50_000)
    tracemalloc.start()
    checked(encoded, check, 65_536)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(encoded) > 2_000_000
    assert peak < 400_000
