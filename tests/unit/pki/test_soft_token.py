"""The soft token: keys encrypted at rest, opened lazily, never under a default passphrase."""

from __future__ import annotations

import dataclasses
import time

import pytest
from cryptography.hazmat.primitives import serialization

from node_agent.errors import Conflict, NotFound, TokenError
from node_agent.pki import der, keys
from node_agent.pki.pkcs8 import KeyEncryption, ScryptCost
from node_agent.pki.soft_token import SoftToken
from tests.support.cheap_scrypt import FAST
from tests.support.csrs import NOW, key_of_kind, openssl

PASSPHRASE = b"correct horse battery staple"


def token(records=(), *, passphrase=PASSPHRASE, activation="automatic", cost=FAST):
    return SoftToken("default", passphrase, activation=activation, records=records, cost=cost)


def test_missing_passphrase_names_the_remedy():
    with pytest.raises(TokenError, match="passphrase_file"):
        SoftToken("default", b"")


@pytest.mark.parametrize("kind", keys.KEY_KINDS)
def test_key_survives_a_restart(kind):
    encryption = KeyEncryption(PASSPHRASE, cost=FAST)
    private_key = key_of_kind(kind)
    encrypted = encryption.encrypt(private_key)
    again = KeyEncryption(PASSPHRASE, cost=FAST).decrypt(encrypted)
    assert keys.spki_of(again.public_key()) == keys.spki_of(private_key.public_key())


def test_generated_key_signs_after_reload():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    assert (record.token, record.label, record.key_kind) == ("default", "ca", "ec-p256")
    key = token([record]).key("ca")
    assert keys.verify(record.public_der, key.sign(b"data"), b"data")
    assert key.spki == record.public_der


def test_stored_key_shows_nothing_of_the_private_half():
    made = token()
    record = made.generate("ca", "ec-p256", created_at=NOW)
    secret = made.private_key("ca").private_numbers().private_value.to_bytes(32, "big")
    assert secret not in record.private_part
    assert PASSPHRASE not in record.private_part
    assert PASSPHRASE.decode() not in repr(made) + repr(made.key("ca")) + repr(made._encryption)


def test_openssl_opens_the_stored_form(tmp_path):
    record = token().generate("ca", "ec-p384", created_at=NOW)
    (tmp_path / "key.p8").write_bytes(record.private_part)
    printed = openssl(
        "pkey", "-inform", "DER", "-in", tmp_path / "key.p8", "-noout", "-text_pub",
        "-passin", "stdin", stdin=PASSPHRASE + b"\n",
    )  # fmt: skip
    assert "384 bit" in printed


def test_default_cost_is_scrypt_with_64_mib():
    record = SoftToken("default", PASSPHRASE).generate("ca", "ec-p256", created_at=NOW)
    assert der.sequence(der.oid("2.16.840.1.101.3.4.1.42"))[2:] in record.private_part
    assert der.integer(2**16) + der.integer(8) + der.integer(2) in record.private_part


def test_wrong_passphrase_is_a_token_error_without_a_cause():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    with pytest.raises(TokenError, match="passphrase") as refused:
        token([record], passphrase=b"wrong").verify()
    assert refused.value.__cause__ is None


def test_second_key_under_another_passphrase_is_refused():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    with pytest.raises(TokenError):
        token([record], passphrase=b"wrong").generate("other", "ec-p256", created_at=NOW)


def test_wrong_passphrases_never_open_a_key():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    for attempt in range(300):
        with pytest.raises(TokenError):
            token([record], passphrase=b"%d" % attempt).key("ca").sign(b"")


def test_swapped_private_key_is_noticed():
    made = token()
    first = made.generate("first", "ec-p256", created_at=NOW)
    second = made.generate("second", "ec-p256", created_at=NOW)
    swapped = dataclasses.replace(first, private_part=second.private_part)
    with pytest.raises(TokenError, match="recorded public key"):
        token([swapped]).key("first").sign(b"")


def test_on_demand_key_is_not_kept_open():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    offline = token([record], activation="on_demand")
    assert keys.verify(record.public_der, offline.key("ca").sign(b"data"), b"data")
    assert offline._open == {}
    offline.generate("second", "ec-p256", created_at=NOW)
    assert offline._open == {}


def test_automatic_key_stays_open():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    online = token([record])
    online.key("ca").sign(b"")
    assert online.open("ca") is online.open("ca")


def test_labels_are_unique_and_removable():
    made = token()
    made.generate("ca", "ec-p256", created_at=NOW)
    with pytest.raises(Conflict):
        made.generate("ca", "ec-p256", created_at=NOW)
    assert made.labels == ["ca"]
    key = made.key("ca")
    made.remove("ca")
    for act in (lambda: made.key("ca"), lambda: made.remove("ca"), lambda: key.sign(b"")):
        with pytest.raises(NotFound):
            act()


def test_keys_of_other_tokens_are_left_alone():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    assert token([dataclasses.replace(record, token="other")]).labels == []


def test_ten_thousand_keys_cost_nothing_until_used():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    records = [dataclasses.replace(record, label=f"ca{number}") for number in range(10_000)]
    started = time.process_time()
    many = token(records, cost=ScryptCost())
    assert time.process_time() - started < 1
    assert many._open == {}
    assert many._encryption._derived == {}


def test_keys_of_a_token_share_one_derivation():
    made = token()
    records = [made.generate(f"ca{number}", "ec-p256", created_at=NOW) for number in range(5)]
    again = token(records)
    for record in records:
        again.key(record.label).sign(b"")
    again.generate("new", "ec-p256", created_at=NOW)
    assert len(again._encryption._derived) == 1


def test_record_with_other_cost_still_opens():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    costlier = token([record], cost=ScryptCost(n=2**11, r=8, p=1))
    costlier.generate("new", "ec-p256", created_at=NOW)
    assert len(costlier._encryption._derived) == 2


@pytest.mark.parametrize("at", range(0, 230, 3))
def test_damaged_record_is_a_token_error(at):
    record = token().generate("ca", "ec-p256", created_at=NOW)
    damaged = bytearray(record.private_part)
    damaged[at] ^= 0x01
    stored = dataclasses.replace(record, private_part=bytes(damaged))
    with pytest.raises(TokenError):
        token([stored]).key("ca").sign(b"")


def test_planted_scrypt_cost_is_refused_before_it_eats_memory():
    record = token().generate("ca", "ec-p256", created_at=NOW)
    planted = record.private_part.replace(der.integer(2**10), der.integer(2**14 - 1))
    assert planted != record.private_part
    for greedy in (ScryptCost(n=2**30), ScryptCost(r=4096), ScryptCost(p=999), ScryptCost(n=1)):
        assert not greedy.is_acceptable()
    with pytest.raises(TokenError):
        token([dataclasses.replace(record, private_part=planted)]).key("ca").sign(b"")


@pytest.mark.parametrize("encrypted", [b"", b"\x30\x00", b"\x30\x04\x30\x00\x30\x00"])
def test_record_in_another_form_is_refused(encrypted):
    with pytest.raises(TokenError, match="not readable"):
        KeyEncryption(PASSPHRASE, cost=FAST).decrypt(encrypted)


def test_pbkdf2_form_of_other_programs_is_refused():
    foreign = key_of_kind().private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE),
    )
    with pytest.raises(TokenError, match="not readable"):
        KeyEncryption(PASSPHRASE, cost=FAST).decrypt(foreign)
