"""DER written and read, against cryptography's own encoder and the rules of X.690."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat import asn1

from node_agent.errors import ConfigError
from node_agent.pki import der


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 24])
def test_header_uses_the_fewest_length_octets(length):
    encoded = der.header(der.OCTET_STRING, length) + bytes(length)
    assert der.read(encoded) == (der.OCTET_STRING, len(encoded) - length, len(encoded))
    assert asn1.decode_der(bytes, encoded) == bytes(length)


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 255, 256, -1, -128, -129, 1 << 158, (1 << 160) - 1]
)
def test_integer_matches_cryptography_and_reads_back(value):
    encoded = der.integer(value)
    assert encoded == asn1.encode_der(value)
    assert der.decode_integer(der.read_all(encoded, der.INTEGER)) == value


@pytest.mark.parametrize("content", ["", "0001", "ff80", "ffff"])
def test_integer_that_is_not_minimal_is_refused(content):
    with pytest.raises(der.DerError):
        der.decode_integer(bytes.fromhex(content))


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [
        ("2.5.4.3", "0603550403"),
        ("1.2.840.113549.1.1.11", "06092a864886f70d01010b"),
        ("2.999.1", "0603883701"),
        ("0.9.2342.19200300.100.1.25", "060a0992268993f22c640119"),
    ],
)
def test_oid_is_encoded_and_decoded(dotted, encoded):
    assert der.oid(dotted).hex() == encoded
    assert der.decode_oid(bytes.fromhex(encoded)[2:]) == dotted


@pytest.mark.parametrize(
    "dotted", ["", "1", "3.1", "1.40", "1.2.x", "1..2", "-1.2", "1.2.٣", "1." + "9" * 5000]
)
def test_text_that_is_no_oid_is_refused(dotted):
    with pytest.raises(der.DerError):
        der.oid(dotted)


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2a" + "01" * 64])
def test_oid_content_that_is_padded_cut_off_or_endless_is_refused(content):
    with pytest.raises(der.DerError):
        der.decode_oid(bytes.fromhex(content))


@pytest.mark.parametrize(
    ("bits", "encoded"),
    [
        (frozenset(), "030100"),
        (frozenset({0}), "03020780"),
        (frozenset({5, 6}), "03020106"),
        (frozenset({0, 8}), "0303078080"),
    ],
)
def test_named_bits_have_no_trailing_zeros(bits, encoded):
    assert der.named_bits(bits).hex() == encoded


@pytest.mark.parametrize(
    ("moment", "tag"),
    [
        ("1970-01-01T00:00:00", der.UTC_TIME),
        ("2026-02-28T23:59:59", der.UTC_TIME),
        ("2049-12-31T23:59:59", der.UTC_TIME),
        ("2050-01-01T00:00:00", der.GENERALIZED_TIME),
        ("9999-12-31T23:59:59", der.GENERALIZED_TIME),
    ],
)
def test_time_changes_its_type_in_2050_and_reads_back(moment, tag):
    at = int(datetime.datetime.fromisoformat(moment + "+00:00").timestamp())
    encoded = der.x509_time(at)
    found, start, end = der.read(encoded)
    assert found == tag
    assert der.decode_time(found, encoded[start:end]) == at
    assert der.decode_time(der.GENERALIZED_TIME, der.generalized_time(at)[2:]) == at


@pytest.mark.parametrize("at", [-(10**12), -1, 253402300800, 10**17, 10**30])
@pytest.mark.parametrize("write", [der.x509_time, der.generalized_time])
def test_a_time_that_has_no_form_is_refused(write, at):
    """A year of five digits would be signed as broken DER; another is beyond the C library."""
    with pytest.raises(ConfigError):
        write(at)


@pytest.mark.parametrize(
    ("tag", "content"),
    [
        (der.UTC_TIME, b"260301120000+0100"),
        (der.UTC_TIME, b"2603011200Z"),
        (der.UTC_TIME, b"260230120000Z"),
        (der.UTC_TIME, b"26030112000\xb2Z"),
        (der.GENERALIZED_TIME, b"20260301120000.5Z"),
        (der.INTEGER, b"260301120000Z"),
        (der.GENERALIZED_TIME, b"20260301126000Z"),
    ],
)
def test_time_in_another_form_or_of_no_day_is_refused(tag, content):
    with pytest.raises(der.DerError):
        der.decode_time(tag, content)


def test_two_digit_years_from_50_are_of_the_last_century():
    assert der.decode_time(der.UTC_TIME, b"991231235959Z") == 946684799


@pytest.mark.parametrize(
    "encoded",
    [
        "30",
        "3003020100"[:-2],
        "3080",
        "30810100",
        "3082000100",
        "30850000000001",
        "1f0100",
        "3081",
    ],
)
def test_malformed_element_is_refused(encoded):
    with pytest.raises(der.DerError):
        der.read(bytes.fromhex(encoded))
    with pytest.raises(der.DerError):
        der.children(bytes.fromhex(encoded))


def test_trailing_byte_is_refused():
    with pytest.raises(der.DerError):
        der.read_all(b"\x05\x00\x00", 0x05)


def test_another_tag_is_refused():
    with pytest.raises(der.DerError):
        der.read_all(b"\x05\x00", der.SEQUENCE)


def test_children_yields_each_element_with_its_encoding():
    inner = der.integer(5) + der.octet_string(bytes(300))
    assert der.children(inner) == [
        (der.INTEGER, b"\x05", b"\x02\x01\x05"),
        (der.OCTET_STRING, bytes(300), der.octet_string(bytes(300))),
    ]
