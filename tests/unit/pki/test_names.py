"""Distinguished and alternative names: parsed, checked, encoded, and the same to other programs."""

from __future__ import annotations

import pytest
from cryptography import x509

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki.names import (
    ATTRIBUTES,
    AlternativeName,
    NameAttribute,
    authority_id,
    encode_alternative_names,
    encode_name,
    format_name,
    normalize,
    parse_name,
    san_kinds,
    validate_attribute,
)
from tests.support.csrs import general_name


@pytest.mark.parametrize(
    "text",
    [
        "CN=Example Root,O=Example",
        "CN=Müller & Söhne\\, Berlin,OU=a,OU=b,C=DE",
        'CN=\\#1 \\"quoted\\" \\+ more\\; \\<x\\>,ST=Hessen,L=Fulda',
        "UID=jdoe,DC=example,DC=org",
        "CN=back\\\\slash",
    ],
)
def test_rfc4514_text_survives_and_matches_cryptography(text):
    name = parse_name(text)
    assert format_name(name) == text
    other = x509.Name.from_rfc4514_string(text)
    assert encode_name(name) == other.public_bytes()
    assert other.rfc4514_string() == text


def test_last_part_of_the_text_is_first_in_the_encoding():
    assert parse_name("CN=Example Root,O=Example") == (
        NameAttribute("organization", "Example"),
        NameAttribute("common_name", "Example Root"),
    )


def test_friendly_names_of_further_attributes_are_understood():
    name = parse_name("serialNumber=42,emailAddress=ca@example.org")
    assert name == (
        NameAttribute("email_address", "ca@example.org"),
        NameAttribute("serial_number", "42"),
    )
    assert format_name(name) == "2.5.4.5=42,1.2.840.113549.1.9.1=ca@example.org"


def test_empty_name_is_an_empty_sequence():
    assert encode_name(parse_name("")) == b"\x30\x00"
    assert format_name(()) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Example Root",
        "CN=a+O=b",
        "GN=Given",
        "2.5.4.12=Title",
        "C=Germany",
        "C=de",
        "CN=" + "x" * 65,
        "serialNumber=ümlaut",
        "emailAddress=nobody",
        "DC=-x",
        "CN=",
        "CN=#0403010203",
    ],
)
def test_name_that_cannot_be_certified_is_refused(text):
    with pytest.raises(ConfigError):
        parse_name(text)


@pytest.mark.parametrize(
    ("attribute", "value", "fault"),
    [
        ("common_name", " x", "spaces"),
        ("common_name", "a\x00b", "control"),
        ("common_name", "a\u2028b", "control"),
        ("common_name", "gro.elpmaxe\u202e", "control"),
        ("common_name", "\ud800", "control"),
        ("organization", "x" * 65, "at most 64"),
        ("serial_number", "a*b", "PrintableString"),
        ("domain_component", "ü", "ASCII"),
        ("email_address", "a@b@c", "e-mail"),
        ("country", "D1", "country code"),
    ],
)
def test_attribute_fault_is_named(attribute, value, fault):
    assert fault in validate_attribute(attribute, value)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_encodes_like_cryptography(attribute):
    value = {"country": "DE", "email_address": "a@example.org"}.get(attribute, "value")
    oid = x509.ObjectIdentifier(ATTRIBUTES[attribute].oid)
    assert validate_attribute(attribute, value) == ""
    expected = x509.Name([x509.NameAttribute(oid, value)]).public_bytes()
    assert encode_name([NameAttribute(attribute, value)]) == expected


@pytest.mark.parametrize("value", [" leads", "trails ", "#hash", " ", "  ", "a=b", "x\x00y"])
def test_odd_values_are_escaped_like_cryptography(value):
    other = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, value)])
    assert format_name([NameAttribute("common_name", value)]) == other.rfc4514_string()


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        ("dns", "Host.Example.ORG", "host.example.org"),
        ("dns", "localhost", "localhost"),
        ("dns", "xn--mller-kva.example", "xn--mller-kva.example"),
        ("dns", "a" * 63 + ".example", "a" * 63 + ".example"),
        ("ip", "192.0.2.1", "192.0.2.1"),
        ("ip", "2001:DB8:0::1", "2001:db8::1"),
        ("email", "Some.One+tag@Example.ORG", "Some.One+tag@example.org"),
        ("uri", "https://host.example.org:8443/path?q#f", "https://host.example.org:8443/path?q#f"),
        ("uri", "spiffe://pki.example.org/node/ca1", "spiffe://pki.example.org/node/ca1"),
        ("uri", "https://[2001:db8::1]:80/", "https://[2001:db8::1]:80/"),
        ("uri", "ldap://user@192.0.2.7/x", "ldap://user@192.0.2.7/x"),
        ("uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", None),
    ],
)
def test_alternative_name_takes_its_normal_form(kind, value, normal):
    assert normalize(kind, value) == AlternativeName(kind, normal or value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", ""),
        ("dns", "."),
        ("dns", "host.example.org."),
        ("dns", "under_score.example.org"),
        ("dns", "-x.example.org"),
        ("dns", "x-.example.org"),
        ("dns", "a" * 64 + ".example"),
        ("dns", ".".join(["a" * 62] * 5)),
        ("dns", "192.0.2.1"),
        ("dns", "example.123"),
        ("dns", "*.example.org"),
        ("dns", "müller.example"),
        ("dns", "host\n.example.org"),
        ("dns", "host.example.org\n"),
        ("dns", "ab--cd.example"),
        ("dns", "xn--.example"),
        ("dns", "xn--abc-.example"),
        ("dns", "xn--99999999999.example"),
        ("dns", "a..b"),
        ("dns", "host.example.org\x00.evil.example"),
        ("ip", "192.0.2.0/24"),
        ("ip", "192.0.2.01"),
        ("ip", "fe80::1%eth0"),
        ("ip", "host"),
        ("email", "nobody"),
        ("email", "@example.org"),
        ("email", "a..b@example.org"),
        ("email", "a b@example.org"),
        ("email", "a@-x.example"),
        ("email", "x" * 65 + "@example.org"),
        ("email", "Name <a@example.org>"),
        ("uri", "relative/path"),
        ("uri", "HTTP://host/"),
        ("uri", "https:///path"),
        ("uri", "https://ho st/"),
        ("uri", "https://exa_mple/"),
        ("uri", "https://host.example/%zz"),
        ("uri", "mailto:a@example.org"),
        ("uri", "https://host/\u00fc"),
        ("uri", "https://h/" + "x" * 2048),
    ],
)
def test_alternative_name_outside_its_rfc_is_refused(kind, value):
    with pytest.raises(RequestRefused) as refused:
        normalize(kind, value)
    assert refused.value.field == f"san.{kind}"


def test_wildcard_needs_leave_and_a_domain_of_its_own():
    assert normalize("dns", "*.Example.org", wildcard=True).value == "*.example.org"
    for value in ("*.org", "*", "a.*.example.org", "*.*.example.org", "w*.example.org"):
        with pytest.raises(RequestRefused):
            normalize("dns", value, wildcard=True)


def test_alternative_names_encode_like_cryptography():
    texts = [
        ("dns", "host.example.org"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::1"),
        ("email", "a@example.org"),
        ("uri", "https://example.org/"),
    ]
    expected = x509.SubjectAlternativeName([general_name(f"{k}:{v}") for k, v in texts])
    names = [normalize(kind, value) for kind, value in texts]
    assert encode_alternative_names(names) == expected.public_bytes()
    assert set(san_kinds()) == {kind for kind, _ in texts}


def test_authority_id_depends_on_name_and_key():
    first = authority_id(b"name", b"key")
    assert len(first) == 32
    assert int(first, 16) >= 0
    assert len({first, authority_id(b"name", b"other"), authority_id(b"another", b"key")}) == 3
