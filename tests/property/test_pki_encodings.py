"""Encodings, names and patterns agree with other implementations on anything."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import der
from node_agent.pki.names import (
    ATTRIBUTES,
    NameAttribute,
    encode_name,
    format_name,
    normalize,
    parse_name,
    validate_attribute,
)
from node_agent.pki.patterns import Pattern

OIDS = st.builds(
    lambda first, second, rest: ".".join(map(str, (first, second, *rest))),
    st.integers(0, 1),
    st.integers(0, 39),
    st.lists(st.integers(0, 2**40), max_size=6),
)
TIMES = st.integers(0, 253402300799)


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_match_the_library_and_read_back(value):
    encoded = der.integer(value)
    assert encoded == asn1.encode_der(value)
    assert der.decode_integer(encoded[2:]) == value


@given(OIDS)
def test_oids_match_the_library_and_read_back(dotted):
    encoded = der.oid(dotted)
    assert encoded == asn1.encode_der(x509.ObjectIdentifier(dotted))
    assert der.decode_oid(der.read_all(encoded, der.OID)) == dotted


@given(TIMES)
def test_times_read_back(at):
    for encoded in (der.x509_time(at), der.generalized_time(at)):
        tag, start, end = der.read(encoded)
        assert der.decode_time(tag, encoded[start:end]) == at


@given(st.lists(st.tuples(st.sampled_from([2, 4, 48]), st.binary(max_size=300)), max_size=8))
def test_elements_read_back(elements):
    encoded = b"".join(der.tlv(tag, content) for tag, content in elements)
    assert [(tag, content) for tag, content, _ in der.children(encoded)] == elements


@given(st.binary(max_size=200))
def test_any_octets_are_elements_or_der_error(octets):
    try:
        found = der.children(octets)
    except der.DerError:
        return
    assert b"".join(whole for _, _, whole in found) == octets
    assert all(der.tlv(tag, content) == whole for tag, content, whole in found)


def attribute_values():
    attributes = st.sampled_from(sorted(ATTRIBUTES))
    texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    pairs = st.tuples(attributes, texts)
    return pairs.filter(lambda pair: not validate_attribute(*pair)).map(lambda p: NameAttribute(*p))


@given(st.lists(attribute_values(), max_size=5).map(tuple))
def test_names_match_the_library_and_survive_as_text(name):
    oids = {attribute: x509.ObjectIdentifier(kind.oid) for attribute, kind in ATTRIBUTES.items()}
    other = x509.Name([x509.NameAttribute(oids[a], value) for a, value in name])
    assert encode_name(name) == other.public_bytes()
    assert format_name(name) == other.rfc4514_string()
    assert parse_name(format_name(name)) == name


@given(st.sampled_from(["dns", "ip", "email", "uri"]), st.text(max_size=80), st.booleans())
def test_normal_form_is_stable_and_ascii(kind, value, wildcard):
    try:
        name = normalize(kind, value, wildcard=wildcard)
    except RequestRefused:
        return
    assert normalize(kind, name.value, wildcard=wildcard) == name
    assert name.value.isascii()
    assert name.value.isprintable()


@given(st.from_regex(r"\A(\*\.)?([a-z0-9-]{1,10}\.){0,4}[a-z0-9-]{1,10}\Z"), st.booleans())
def test_names_that_look_like_hosts_are_judged_by_their_labels(value, wildcard):
    try:
        name = normalize("dns", value, wildcard=wildcard)
    except RequestRefused:
        return
    labels = name.value.removeprefix("*.").split(".")
    assert all(label.strip("-") == label for label in labels)
    assert not labels[-1].isdigit()
    assert wildcard or not name.value.startswith("*.")


def sources():
    atoms = st.sampled_from(
        ["a", "b", "-", r"\.", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", "[]a]", r"[\w-]"]
    )
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map("".join),
            st.lists(inner, min_size=1, max_size=3).map("|".join).map("({})".format),
            inner.map("(?:{})*".format),
            inner.map("({})+".format),
            inner.map("(?:{})?".format),
            inner.map("(?:{}){{1,2}}".format),
            inner.map("(?:{}){{2}}".format),
        ),
        max_leaves=6,
    )


@given(sources(), st.lists(st.text("abc-._1A\u00fc", max_size=6), min_size=1, max_size=6))
def test_patterns_mean_what_they_mean_elsewhere(source, texts):
    pattern = Pattern(source)
    reference = re.compile(source, re.ASCII)
    for text in texts:
        assert pattern.matches(text) == (reference.fullmatch(text) is not None), (source, text)


@given(st.text(r"ab()[]{}*+?|\^$.,-1", max_size=12), st.text("ab1", max_size=5))
def test_any_text_is_a_pattern_or_config_error(source, text):
    try:
        pattern = Pattern(source)
    except ConfigError:
        return
    reference = re.compile(source, re.ASCII)
    assert pattern.matches(text) == (reference.fullmatch(text) is not None)
