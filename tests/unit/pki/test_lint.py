"""The check before each signature: every fact changed on its own must be noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.errors import LintFailed
from node_agent.pki import authorities, der
from node_agent.pki.issue import prepare
from node_agent.pki.lint import check_to_be_signed
from node_agent.pki.names import AlternativeName, NameAttribute, parse_name
from tests.support.csrs import NOW, issuing_ca, parsed_csr, profile, root_ca


def sound():
    names = ["dns:host.example.org", "ip:192.0.2.1", "ip:2001:db8::1", "uri:https://example.org/"]
    return prepare(issuing_ca(), profile().admit(parsed_csr(names=names)), now=NOW)


def test_sound_certificate_passes():
    assert check_to_be_signed(sound()) is None


def test_ca_certificate_passes():
    made = authorities.prepare_issuing_ca(
        root_ca(), parsed_csr().spki, parse_name("CN=Below"), now=NOW, validity_days=10
    )
    assert check_to_be_signed(made) is None


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"serial": 7}, "serial number"),
        ({"algorithm": der.sequence(der.oid("1.3.101.112"))}, "signature algorithm"),
        ({"issuer_name": b"\x30\x00"}, "issuer"),
        ({"not_before": NOW}, "validity"),
        ({"not_after": NOW}, "validity"),
        ({"latest_not_after": NOW}, "validity"),
        ({"subject": (NameAttribute("common_name", "other"),)}, "subject"),
        ({"subject": ()}, "subject"),
        ({"spki": b"\x30\x00"}, "public key"),
        ({"names": (AlternativeName("dns", "other.example"),)}, "alternative names"),
        ({"names": ()}, "alternative names"),
        ({"is_ca": True}, "CA flag"),
    ],
)
def test_certificate_that_says_something_else_is_not_signed(changes, finding):
    with pytest.raises(LintFailed, match=finding):
        check_to_be_signed(replace(sound(), **changes))


def test_extension_that_stands_there_twice_is_noticed():
    made = sound()
    fields = der.children(der.read_all(made.der, der.SEQUENCE))
    extensions = der.children(der.read_all(fields[7][1], der.SEQUENCE))
    doubled = b"".join(whole for _, _, whole in extensions) + extensions[0][2]
    body = b"".join(whole for _, _, whole in fields[:7])
    last = der.context(3, der.tlv(der.SEQUENCE, doubled), constructed=True)
    with pytest.raises(LintFailed, match="extensions"):
        check_to_be_signed(replace(made, der=der.sequence(body, last)))


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x00", b"\x31\x00"])
def test_octets_that_are_no_certificate_are_noticed(octets):
    with pytest.raises(LintFailed):
        check_to_be_signed(replace(sound(), der=octets))


def test_no_flipped_bit_in_what_was_decided_goes_unnoticed():
    """Static extensions (usages, URLs) are the profile's and linted with it; the rest is read."""
    made = sound()
    fields = der.children(der.read_all(made.der, der.SEQUENCE))
    start = len(made.der) - len(b"".join(whole for _, _, whole in fields))
    for at in range(start, len(made.der) - len(fields[7][2])):
        for bit in range(8):
            flipped = bytearray(made.der)
            flipped[at] ^= 1 << bit
            with pytest.raises(LintFailed):
                check_to_be_signed(replace(made, der=bytes(flipped)))
