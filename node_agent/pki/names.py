"""Names: distinguished names, alternative names, and the id of an issuing key.

A distinguished name is a sequence of (attribute OID, text) in the order of the encoding, one
attribute per RDN; RFC 4514 text lists the same attributes last first. Alternative names are
checked character by character against their RFCs before they are encoded: a CA must not sign what
it only copied.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from cryptography import x509
from cryptography.x509.oid import NameOID

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import der

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ATTRIBUTES",
    "AlternativeName",
    "AttributeType",
    "DistinguishedName",
    "NameAttribute",
    "SanKind",
    "attribute_of_oid",
    "authority_id",
    "encode_alternative_names",
    "encode_name",
    "format_name",
    "normalize",
    "parse_name",
    "san_kinds",
    "validate_attribute",
]

SanKind = Literal["dns", "ip", "email", "uri"]

_UTF8, _PRINTABLE, _IA5 = 0x0C, 0x13, 0x16
_SAN_TAG: dict[str, int] = {"email": 0x81, "dns": 0x82, "uri": 0x86, "ip": 0x87}

# RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters.
MAX_DNS_NAME_CHARACTERS = 253
# RFC 5321 section 4.5.3.1.3: a path of 256 octets with its angle brackets.
MAX_EMAIL_CHARACTERS = 254
# RFC 9110 section 4.1 asks for at least 8,000; a name in a certificate needs no more than this.
MAX_URI_CHARACTERS = 2048

_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_EMAIL_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z"
)
_URI_CHARACTER = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2}"
_URI = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*):(?P<rest>(?:{_URI_CHARACTER})+)\Z")
_PRINTABLE_TEXT = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]+\Z")
# Control characters, line ends, and those that turn the direction of text: a name must read as it
# stands.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)


class AttributeType(NamedTuple):
    """One subject attribute: OID, string type (ASN.1 tag) and RFC 5280 appendix A upper bound."""

    oid: str
    tag: int
    upper_bound: int


ATTRIBUTES: dict[str, AttributeType] = {
    "common_name": AttributeType("2.5.4.3", _UTF8, 64),
    "serial_number": AttributeType("2.5.4.5", _PRINTABLE, 64),
    "country": AttributeType("2.5.4.6", _PRINTABLE, 2),
    "locality": AttributeType("2.5.4.7", _UTF8, 128),
    "state_or_province": AttributeType("2.5.4.8", _UTF8, 128),
    "organization": AttributeType("2.5.4.10", _UTF8, 64),
    "organizational_unit": AttributeType("2.5.4.11", _UTF8, 64),
    "user_id": AttributeType("0.9.2342.19200300.100.1.1", _UTF8, 256),
    "domain_component": AttributeType("0.9.2342.19200300.100.1.25", _IA5, 63),
    "email_address": AttributeType("1.2.840.113549.1.9.1", _IA5, 255),
}
_NAME_OF_OID = {attribute.oid: name for name, attribute in ATTRIBUTES.items()}
_SHORT = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_ALSO_PARSED = {
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "E": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
}


class NameAttribute(NamedTuple):
    """One attribute of a distinguished name. ``attribute`` is a key of ATTRIBUTES."""

    attribute: str
    value: str


DistinguishedName = tuple[NameAttribute, ...]


class AlternativeName(NamedTuple):
    """One subjectAltName: kind and normalized text."""

    kind: SanKind
    value: str


def san_kinds() -> tuple[str, ...]:
    """Return the kinds of alternative names that can be certified."""
    return get_args(SanKind)


def attribute_of_oid(dotted: str) -> str | None:
    """Return the attribute's name here, or None when it can't be certified."""
    return _NAME_OF_OID.get(dotted)


def parse_name(text: str) -> DistinguishedName:
    """Return the distinguished name that RFC 4514 ``text`` states, in the order of its encoding.

    Raises ConfigError on a syntax error, an attribute that isn't supported or a value too long.
    """
    try:
        name = x509.Name.from_rfc4514_string(text, _ALSO_PARSED)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not a distinguished name",
            remedy="write RFC 4514 text such as CN=Example Root,O=Example",
        ) from error
    attributes = []
    for rdn in name.rdns:
        for part in rdn:
            attribute = _NAME_OF_OID.get(part.oid.dotted_string)
            if attribute is None or len(rdn) != 1 or not isinstance(part.value, str):
                raise ConfigError(
                    f"{rdn.rfc4514_string()!r} can't stand in a subject",
                    remedy=f"use single attributes of {', '.join(ATTRIBUTES)}",
                )
            if fault := validate_attribute(attribute, part.value):
                raise ConfigError(f"{attribute} {fault}", remedy="shorten or correct the value")
            attributes.append(NameAttribute(attribute, part.value))
    return tuple(attributes)


def validate_attribute(attribute: str, value: str) -> str:
    """Return what is wrong with a subject attribute's value, or an empty string."""
    kind = ATTRIBUTES[attribute]
    if not value.strip() or value != value.strip():
        return "is empty or has spaces at an end"
    if len(value) > kind.upper_bound:
        return f"has {len(value)} characters, at most {kind.upper_bound} are allowed (RFC 5280)"
    if _CONTROL.search(value) or not _is_unicode(value):
        return "has control characters"
    if kind.tag == _PRINTABLE and not _PRINTABLE_TEXT.match(value):
        return "has characters outside PrintableString"
    if kind.tag == _IA5 and not value.isascii():
        return "has characters outside ASCII"
    if attribute == "country" and not (len(value) == 2 and value.isalpha() and value.isupper()):
        return "is not a two-letter upper-case country code (ISO 3166)"
    if attribute == "email_address" and _email_fault(value):
        return "is not an e-mail address"
    if attribute == "domain_component" and not _DNS_LABEL.match(value.lower()):
        return "is not a DNS label"
    return ""


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_name(name: Iterable[NameAttribute]) -> bytes:
    """Return a distinguished name as DER, one attribute per RDN."""
    return der.sequence(*(_encode_attribute(attribute, value) for attribute, value in name))


def _encode_attribute(attribute: str, value: str) -> bytes:
    kind = ATTRIBUTES[attribute]
    pair = der.sequence(der.oid(kind.oid), der.tlv(kind.tag, value.encode()))
    return der.tlv(der.SET, pair)


def format_name(name: Sequence[NameAttribute]) -> str:
    """Return RFC 4514 text: what ``cryptography`` prints for the same name."""
    return ",".join(
        f"{_SHORT.get(oid, oid)}={_escape(value)}"
        for oid, value in ((ATTRIBUTES[a].oid, v) for a, v in reversed(name))
    )


_SPECIAL = re.compile(r'[\\",+;<>\x00]')


def _escape(value: str) -> str:
    if _SPECIAL.search(value):
        value = _SPECIAL.sub(lambda m: "\\00" if m[0] == "\x00" else "\\" + m[0], value)
    if value[0] in "# ":
        value = "\\" + value
    if value[-1] == " " and value != "\\ ":
        value = value[:-1] + "\\ "
    return value


def authority_id(name_der: bytes, spki_der: bytes) -> str:
    """Return the id of an issuing key: 32 hex digits of SHA-256 over its name and public key."""
    return hashlib.sha256(name_der + spki_der).hexdigest()[:32]


def normalize(kind: SanKind, value: str, *, wildcard: bool = False) -> AlternativeName:
    """Return the alternative name in the one form in which it is compared, shown and encoded.

    DNS names and the domains of e-mail addresses become lower case, IP addresses canonical.
    ``wildcard`` lets a DNS name begin with ``*.``. Raises RequestRefused saying what is wrong.
    """
    fault, normalized = "", value
    match kind:
        case "dns":
            normalized = value.lower()
            fault = _dns_fault(normalized, wildcard=wildcard)
        case "ip":
            fault, normalized = _normalize_ip(value)
        case "email":
            local, _, domain = value.rpartition("@")
            normalized = f"{local}@{domain.lower()}"
            fault = _email_fault(normalized)
        case "uri":
            fault = _uri_fault(value)
    if fault:
        raise RequestRefused(
            f"{value[:MAX_DNS_NAME_CHARACTERS]!r} {fault}",
            field=f"san.{kind}",
            remedy="correct the name or leave it out",
        )
    return AlternativeName(kind, normalized)


def _dns_fault(name: str, *, wildcard: bool = False) -> str:
    """RFC 5280 section 4.2.1.6: the preferred name syntax of RFC 1034 section 3.5."""
    if len(name) > MAX_DNS_NAME_CHARACTERS:
        return f"is longer than {MAX_DNS_NAME_CHARACTERS} characters"
    return _short_dns_fault(name, wildcard)


# One enrolment asks three times for each of its names: in the CSR, by the profile, and when the
# common name is compared. Remembered are short names only, so that strangers can't fill memory.
@functools.lru_cache(maxsize=1024)
def _short_dns_fault(name: str, wildcard: bool) -> str:
    if name.startswith("*."):
        if not wildcard:
            return "is a wildcard, which needs a pattern that names it"
        name = name[2:]
        if "." not in name:
            return "is a wildcard for a whole top-level domain"
    labels = name.split(".")
    if not all(_DNS_LABEL.match(label) for label in labels):
        return "is not a DNS name (letters, digits and inner dashes, labels of at most 63)"
    if labels[-1].isdigit():
        return "ends in a number: an address belongs into an IP name"
    if any(label[2:4] == "--" and not _is_idna(label) for label in labels):
        return "has a label with dashes at the third and fourth place that is no IDNA label"
    return ""


def _is_idna(label: str) -> bool:
    if not label.startswith("xn--"):
        return False
    try:
        decoded = label[4:].encode().decode("punycode")
    except (ValueError, OverflowError):
        return False
    return bool(decoded) and not decoded.isascii()


def _normalize_ip(value: str) -> tuple[str, str]:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return "is not an IP address", value
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "has a zone, which a certificate can't express", value
    return "", str(address)


def _email_fault(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if len(value) > MAX_EMAIL_CHARACTERS or len(local) > 64:
        return "is longer than an e-mail address may be (RFC 5321 section 4.5.3.1)"
    if not at or not _EMAIL_LOCAL.match(local) or _dns_fault(domain.lower()):
        return "is not an e-mail address (RFC 5280 section 4.2.1.6: a bare local@domain)"
    return ""


def _uri_fault(value: str) -> str:
    """RFC 5280 section 4.2.1.6: absolute, with a host where the scheme has an authority."""
    if len(value) > MAX_URI_CHARACTERS:
        return f"is longer than {MAX_URI_CHARACTERS} characters"
    match = _URI.match(value)
    if match is None:
        return "is not an absolute URI in ASCII (RFC 3986)"
    rest = match["rest"]
    if not rest.startswith("//"):
        return "" if match["scheme"] in ("urn", "tag") else "has no host"
    host = re.split(r"[/?#]", rest[2:], maxsplit=1)[0].rpartition("@")[2]
    if re.fullmatch(r"\[[0-9a-fA-F:.]+\](?::\d{1,5})?", host):
        return ""
    name = host.partition(":")[0].lower()
    if not name or (_dns_fault(name) and _normalize_ip(name)[0]):
        return "has a host that is neither a DNS name nor an address"
    return ""


def encode_alternative_names(names: Iterable[AlternativeName]) -> bytes:
    """Return GeneralNames DER of normalized names."""
    return der.sequence(*(der.tlv(_SAN_TAG[name.kind], _san_octets(name)) for name in names))


def _san_octets(name: AlternativeName) -> bytes:
    if name.kind == "ip":
        return ipaddress.ip_address(name.value).packed
    return name.value.encode("ascii")
