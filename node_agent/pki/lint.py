"""Checks before a CA's key is used.

``check_to_be_signed`` reads back every TBSCertificate, with a decoder that shares nothing with how
it was assembled but the tag numbers, and compares it with what was decided: cheap enough for each
certificate. ``lint_profile_sample`` is the thorough one, for profiles.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from node_agent.errors import LintFailed
from node_agent.pki import der
from node_agent.pki.names import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.pki.issue import ToBeSigned

__all__ = ["check_to_be_signed"]

# version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, extensions.
_FIELD_TAGS = bytes.fromhex("a0023030303030a3")
_VERSION_3 = der.integer(2)
_MAX_SERIAL_OCTETS = 20
_SAN_OID = bytes.fromhex("551d11")
_BASIC_CONSTRAINTS_OID = bytes.fromhex("551d13")
_NO_VALUE = der.octet_string(der.sequence())
_SAN_KINDS = {0x81: "email", 0x82: "dns", 0x86: "uri", 0x87: "ip"}


def check_to_be_signed(to_be_signed: ToBeSigned) -> None:
    """Raise LintFailed unless the encoding says exactly what was decided.

    Read back and compared: version, serial number, algorithm, issuer, validity, subject, key,
    alternative names and their criticality, CA flag, and that no extension stands there twice.
    """
    try:
        findings = _findings(to_be_signed)
    except (ValueError, IndexError) as error:
        findings = [f"the certificate is not well-formed: {error}"]
    if findings:
        raise LintFailed(findings)


def _findings(tbs: ToBeSigned) -> list[str]:
    fields = der.children(der.read_all(tbs.der, der.SEQUENCE))
    if bytes(tag for tag, _, _ in fields) != _FIELD_TAGS or fields[0][1] != _VERSION_3:
        return ["the certificate is not version 3 with extensions"]
    _, serial, algorithm, issuer, validity, subject, spki, last = fields
    extensions = _extensions(last[1])
    checks = (
        ("serial number", _is_sound_serial(serial[1], tbs.serial)),
        ("signature algorithm", algorithm[2] == tbs.algorithm),
        ("issuer", issuer[2] == tbs.issuer_name),
        ("validity", _is_sound_validity(validity[1], tbs)),
        ("subject", _subject(subject[1]) == _expected_subject(tbs)),
        ("public key", spki[2] == tbs.spki),
        ("extensions", extensions is not None),
        ("alternative names", _names_match(extensions or {}, tbs)),
        ("CA flag", _is_ca(extensions or {}) == tbs.is_ca),
    )
    return [f"the {what} is not what was decided" for what, holds in checks if not holds]


def _is_sound_serial(content: bytes, expected: int) -> bool:
    serial = der.decode_integer(content)
    return serial == expected and serial > 0 and len(content) <= _MAX_SERIAL_OCTETS


def _is_sound_validity(content: bytes, tbs: ToBeSigned) -> bool:
    times = [der.decode_time(tag, value) for tag, value, _ in der.children(content)]
    return (
        times == [tbs.not_before, tbs.not_after]
        and times[0] <= times[1]
        and times[1] <= tbs.latest_not_after
    )


def _subject(content: bytes) -> list[tuple[bytes, int, bytes]]:
    """Return (attribute OID, string tag, text) of each RDN."""
    attributes = []
    for rdn_tag, rdn, _ in der.children(content):
        ((pair_tag, pair, _),) = der.children(rdn)
        (_, _, oid), (tag, text, _) = der.children(pair)
        if (rdn_tag, pair_tag) != (der.SET, der.SEQUENCE):
            raise der.DerError("not an attribute")
        attributes.append((oid, tag, text))
    return attributes


def _expected_subject(tbs: ToBeSigned) -> list[tuple[bytes, int, bytes]]:
    types = ((ATTRIBUTES[attribute], value) for attribute, value in tbs.subject)
    return [(der.oid(kind.oid), kind.tag, value.encode()) for kind, value in types]


def _extensions(content: bytes) -> dict[bytes, tuple[bool, bytes]] | None:
    """Return {OID content: (critical, extnValue)}, or None when one stands there twice.

    Only what is compared is taken apart further: this runs for every certificate.
    """
    found: dict[bytes, tuple[bool, bytes]] = {}
    elements = der.children(der.read_all(content, der.SEQUENCE))
    for tag, body, _ in elements:
        value_at = 2 + body[1]
        if tag != der.SEQUENCE or body[0] != der.OID or body[1] >= 0x80:
            raise der.DerError("not an Extension")
        critical = body[value_at : value_at + 3] == der.TRUE
        found[body[2:value_at]] = (critical, body[value_at + 3 * critical :])
    return found if len(found) == len(elements) else None


def _names_match(extensions: dict[bytes, tuple[bool, bytes]], tbs: ToBeSigned) -> bool:
    critical, value = extensions.get(_SAN_OID, (False, _NO_VALUE))
    names = [
        (_SAN_KINDS.get(tag, ""), _name_text(tag, content))
        for tag, content, _ in der.children(_sequence_inside(value))
    ]
    return names == _pairs(tbs.names) and critical == (bool(names) and not tbs.subject)


def _pairs(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(kind, value) for kind, value in names]


def _name_text(tag: int, content: bytes) -> str:
    if _SAN_KINDS.get(tag) == "ip":
        return str(ipaddress.ip_address(content))
    return content.decode("ascii")


def _is_ca(extensions: dict[bytes, tuple[bool, bytes]]) -> bool:
    _, value = extensions.get(_BASIC_CONSTRAINTS_OID, (True, _NO_VALUE))
    return _sequence_inside(value)[:3] == der.TRUE


def _sequence_inside(value: bytes) -> bytes:
    return der.read_all(der.read_all(value, der.OCTET_STRING), der.SEQUENCE)
