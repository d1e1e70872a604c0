"""CRLs, judged by openssl, cryptography and pkilint; long ones by their memory."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from cryptography import x509

from node_agent.errors import ConfigError
from node_agent.pki import crl
from node_agent.pki.issue import issue
from node_agent.pki.keys import KEY_KINDS
from node_agent.store.records import CertificateStatus
from tests.support.csrs import (
    NOW,
    issuing_ca,
    openssl,
    parsed_csr,
    pem,
    pkilint_crl,
    profile,
    root_ca,
)

REVOKED, HELD, GOOD = CertificateStatus.REVOKED, CertificateStatus.ON_HOLD, CertificateStatus.GOOD
TIMES = {"this_update": NOW, "next_update": NOW + 86400}


def entry(serial, *, reason=None, status=REVOKED, revoked_at=NOW - 60, invalidity_at=None):
    """Return a row as the store has it: a released hold has no revocation date any more."""
    date = None if status is GOOD else revoked_at
    return (serial.to_bytes(20, "big"), status.value, date, reason, invalidity_at, revoked_at)


def encoded_entries(writer, rows):
    return crl.entry_encoder(is_delta=writer.is_delta)(rows)


def load(encoded, issuer=None):
    loaded = x509.load_der_x509_crl(encoded)
    parent = x509.load_der_x509_certificate((issuer or issuing_ca()).certificate)
    assert loaded.is_signature_valid(parent.public_key())
    assert loaded.issuer == parent.subject
    return loaded


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_every_kind_of_key_signs_a_crl(kind):
    issuer = issuing_ca(kind)
    encoded = crl.build_crl(issuer, [entry(5), entry(6)], number=1, **TIMES)
    assert len(load(encoded, issuer)) == 2


def test_entries_say_what_was_recorded():
    entries = [
        entry(1),
        entry(2, reason=0),
        entry(3, reason=1, invalidity_at=NOW - 7200),
        entry(4, status=HELD),
        entry(5, reason=4, status=HELD),
        entry((1 << 159) - 1, reason=9),
    ]
    loaded = load(crl.build_crl(issuing_ca(), entries, number=77, **TIMES))
    reasons = {}
    for revoked in loaded:
        assert revoked.revocation_date_utc.timestamp() == NOW - 60
        found = {type(extension.value): extension.value for extension in revoked.extensions}
        reason = found.get(x509.CRLReason)
        reasons[revoked.serial_number] = reason.reason.value if reason else None
    assert reasons == {
        1: None,
        2: None,
        3: "keyCompromise",
        4: "certificateHold",
        5: "certificateHold",
        (1 << 159) - 1: "privilegeWithdrawn",
    }
    third = loaded.get_revoked_certificate_by_serial_number(3)
    date = third.extensions.get_extension_for_class(x509.InvalidityDate).value
    assert date.invalidity_date_utc.timestamp() == NOW - 7200
    assert loaded.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 77
    key_id = loaded.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert key_id.key_identifier == issuing_ca().key_id
    assert loaded.last_update_utc.timestamp() == NOW
    assert loaded.next_update_utc.timestamp() == NOW + 86400


def test_empty_crl_has_no_list_at_all(tmp_path):
    encoded = crl.build_crl(issuing_ca(), [], number=1, **TIMES)
    assert list(load(encoded)) == []
    (tmp_path / "empty.crl").write_bytes(encoded)
    assert "No Revoked Certificates" in openssl(
        "crl", "-inform", "DER", "-in", tmp_path / "empty.crl", "-noout", "-text"
    )
    assert pkilint_crl(encoded) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base_number": 3},
        {"distribution_point_urls": ["http://va.example.org/crl/issuing/7.crl"]},
        {"distribution_point_urls": ["http://a.example/i/7.crl", "http://b.example/i/7.crl"]},
        {"distribution_point_urls": ["http://va.example.org/i/7.crl"], "base_number": 3},
        {"freshest_urls": ["http://va.example.org/crl/issuing-delta.crl"]},
        {
            "distribution_point_urls": ["http://va.example.org/crl/issuing/7.crl"],
            "freshest_urls": ["http://va.example.org/crl/issuing/7-delta.crl"],
        },
    ],
)
@pytest.mark.parametrize("is_empty", [False, True])
def test_pkilint_finds_nothing(options, is_empty):
    assert pkilint_crl(made_crl(options, is_empty=is_empty)) == []


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_pkilint_finds_nothing_whatever_key_has_signed(kind):
    options = {"distribution_point_urls": ["http://va.example.org/i/7.crl"], "base_number": 3}
    assert pkilint_crl(made_crl(options, kind)) == []


def made_crl(options, kind="ec-p256", *, is_empty=False):
    """Return a CRL with an entry of each sort; a delta says of a released hold that it is good."""
    released = [entry(8, status=GOOD)] if "base_number" in options else []
    rows = [entry(5, reason=1, invalidity_at=NOW - 1), entry(6), entry(7, status=HELD), *released]
    with crl.CrlWriter(issuing_ca(kind), number=9, **TIMES, **options) as writer:
        if not is_empty:
            writer.add(encoded_entries(writer, rows))
        finished = writer.finish()
        return finished.complete(finished.sign())


def test_openssl_verify_sees_the_revocation(tmp_path):
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    lists = [
        crl.build_crl(root_ca(), [], number=1, **TIMES),
        crl.build_crl(issuing_ca(), [entry(issued.serial, reason=1)], number=1, **TIMES),
    ]
    (tmp_path / "root.pem").write_bytes(pem("CERTIFICATE", root_ca().certificate))
    (tmp_path / "issuing.pem").write_bytes(pem("CERTIFICATE", issuing_ca().certificate))
    (tmp_path / "leaf.pem").write_bytes(pem("CERTIFICATE", issued.der))
    (tmp_path / "crls.pem").write_bytes(b"".join(pem("X509 CRL", made) for made in lists))
    arguments = [
        "verify", "-crl_check_all", "-x509_strict", "-attime", str(NOW + 60),
        "-CAfile", tmp_path / "root.pem", "-CRLfile", tmp_path / "crls.pem",
    ]  # fmt: skip
    assert "OK" in openssl(*arguments, tmp_path / "issuing.pem")
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(*arguments, "-untrusted", tmp_path / "issuing.pem", tmp_path / "leaf.pem")


def test_delta_names_its_base_and_releases_holds():
    encoded = crl.build_crl(
        issuing_ca(), [entry(5), entry(6, status=GOOD)], number=9, base_number=7, **TIMES
    )
    loaded = load(encoded)
    indicator = loaded.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert indicator.critical
    assert indicator.value.crl_number == 7
    released = loaded.get_revoked_certificate_by_serial_number(6)
    reason = released.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.remove_from_crl


def test_openssl_applies_the_delta(tmp_path):
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    delta = crl.build_crl(issuing_ca(), [entry(issued.serial)], number=2, base_number=1, **TIMES)
    urls = ["http://va.example.org/crl/issuing-delta.crl"]
    with crl.CrlWriter(issuing_ca(), number=1, **TIMES, freshest_urls=urls) as writer:
        finished = writer.finish()
        lists = [finished.complete(finished.sign()), delta]
    (tmp_path / "issuing.pem").write_bytes(pem("CERTIFICATE", issuing_ca().certificate))
    (tmp_path / "leaf.pem").write_bytes(pem("CERTIFICATE", issued.der))
    (tmp_path / "crls.pem").write_bytes(b"".join(pem("X509 CRL", made) for made in lists))
    arguments = [
        "verify", "-crl_check", "-partial_chain", "-attime", str(NOW + 60),
        "-trusted", tmp_path / "issuing.pem", "-CRLfile", tmp_path / "crls.pem",
    ]  # fmt: skip
    assert "OK" in openssl(*arguments, tmp_path / "leaf.pem")
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(*arguments, "-extended_crl", "-use_deltas", tmp_path / "leaf.pem")


def test_released_hold_is_not_in_a_full_crl():
    loaded = load(crl.build_crl(issuing_ca(), [entry(6, status=GOOD)], number=9, **TIMES))
    assert len(loaded) == 0


def test_distribution_point_and_freshest_crl_are_named():
    with crl.CrlWriter(
        issuing_ca(),
        number=1,
        **TIMES,
        distribution_point_urls=["http://va.example.org/crl/a.crl"],
        freshest_urls=["http://va.example.org/crl/a-delta.crl"],
    ) as writer:
        finished = writer.finish()
        loaded = load(finished.complete(finished.sign()))
    point = loaded.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert point.value.full_name[0].value == "http://va.example.org/crl/a.crl"
    freshest = loaded.extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest[0].full_name[0].value == "http://va.example.org/crl/a-delta.crl"


@pytest.mark.parametrize("invalidity_at", [-1, 253402300800, 10**17])
def test_an_invalidity_date_that_cannot_be_written_is_left_out(invalidity_at):
    rows = [entry(5, reason=1, invalidity_at=invalidity_at), entry(6, invalidity_at=invalidity_at)]
    loaded = load(crl.build_crl(issuing_ca(), rows, number=1, **TIMES))
    first, second = loaded
    assert [extension.value.oid for extension in first.extensions] == [x509.CRLReason.oid]
    assert not list(second.extensions)


def test_entries_after_2050_use_generalized_time():
    late = 2524608000
    loaded = load(
        crl.build_crl(
            issuing_ca(),
            [entry(5, revoked_at=late)],
            number=1,
            this_update=late,
            next_update=late + 10,
        )
    )
    assert loaded.last_update_utc.year == 2050
    assert next(iter(loaded)).revocation_date_utc.year == 2050


@pytest.mark.parametrize(
    "options",
    [
        {"number": -1, **TIMES},
        {"number": 1 << 159, **TIMES},
        {"number": 5, "base_number": 6, **TIMES},
        {"number": 5, "this_update": NOW, "next_update": NOW},
    ],
)
def test_impossible_crl_is_refused(options):
    with pytest.raises(ConfigError):
        crl.CrlWriter(issuing_ca(), **options)


def test_long_crl_is_built_in_pieces_with_flat_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(crl, "_SPOOL_BYTES", 1 << 18)
    monkeypatch.setattr(crl, "_CHUNK_BYTES", 1 << 16)
    tracemalloc.start()
    with (
        crl.CrlWriter(issuing_ca(), number=1, **TIMES) as writer,
        (tmp_path / "long.crl").open("wb") as out,
    ):
        for chunk in range(25):
            first = (1 << 158) + chunk * 1000
            rows = [entry(first + number, reason=number % 2) for number in range(1000)]
            writer.add(encoded_entries(writer, rows))
        finished = writer.finish()
        finished.write(out, finished.sign())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert writer.entry_count == 25_000
    assert peak < 700_000 < 1_000_000 < (tmp_path / "long.crl").stat().st_size
    assert len(load((tmp_path / "long.crl").read_bytes())) == 25_000


def test_pieces_and_whole_are_the_same_octets():
    with crl.CrlWriter(issuing_ca("ed25519"), number=1, **TIMES) as writer:
        writer.add(encoded_entries(writer, [entry(5)]))
        finished = writer.finish()
        assert not finished.is_digest
        signature = finished.sign()
        written = io.BytesIO()
        finished.write(written, signature)
        assert written.getvalue() == finished.complete(signature)
