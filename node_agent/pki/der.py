"""Distinguished encoding rules (X.690) for the few types that PKIX structures are made of.

Writing concatenates bytes; reading is strict DER (minimal definite lengths, low tag numbers,
no trailing bytes) and raises only ``DerError``. Where a structure is signed a million times, its
fixed parts are encoded once and joined; that is what makes this faster than a general encoder.
"""

from __future__ import annotations

import datetime
import functools
import time

from node_agent.clock import LAST_SECOND
from node_agent.errors import ConfigError

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "ENUMERATED",
    "GENERALIZED_TIME",
    "INTEGER",
    "NULL",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "TRUE",
    "UTC_TIME",
    "DerError",
    "bit_string",
    "children",
    "context",
    "decode_integer",
    "decode_oid",
    "decode_time",
    "enumerated",
    "extension",
    "generalized_time",
    "header",
    "integer",
    "named_bits",
    "octet_string",
    "oid",
    "read",
    "read_all",
    "sequence",
    "tlv",
    "x509_time",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL_TAG, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ENUMERATED, UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x0A, 0x17, 0x18, 0x30, 0x31

TRUE = b"\x01\x01\xff"
NULL = b"\x05\x00"

# RFC 5280 section 4.1.2.5: dates through 2049 are UTCTime, later ones GeneralizedTime.
_FIRST_SECOND_OF_2050 = 2524608000
_SECONDS_PER_DAY = 86400


class DerError(ValueError):
    """The bytes are not the DER encoding that was expected."""


def header(tag: int, length: int) -> bytes:
    """Return the tag and length octets that go before ``length`` content octets."""
    if length < 0x80:
        return bytes((tag, length))
    if length < 0x100:
        return bytes((tag, 0x81, length))
    if length < 0x10000:
        return bytes((tag, 0x82, length >> 8, length & 0xFF))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def tlv(tag: int, content: bytes) -> bytes:
    """Return ``content`` under ``tag``."""
    return header(tag, len(content)) + content


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of encoded parts."""
    content = b"".join(parts)
    return header(SEQUENCE, len(content)) + content


def integer(value: int) -> bytes:
    """Return an INTEGER."""
    magnitude = value if value >= 0 else ~value
    content = value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)
    return header(INTEGER, len(content)) + content


def enumerated(value: int) -> bytes:
    """Return an ENUMERATED of a small non-negative value."""
    return bytes((ENUMERATED, 1, value))


def octet_string(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return header(BIT_STRING, len(content) + 1) + b"\x00" + content


def named_bits(bits: frozenset[int]) -> bytes:
    """Return a BIT STRING of named bits without trailing zero bits (X.690 section 11.2.2)."""
    if not bits:
        return b"\x03\x01\x00"
    highest = max(bits)
    value = sum(1 << (highest - bit) for bit in bits)
    unused = 7 - highest % 8
    content = (value << unused).to_bytes(highest // 8 + 1, "big")
    return tlv(BIT_STRING, bytes((unused,)) + content)


def context(number: int, content: bytes, *, constructed: bool) -> bytes:
    """Return ``content`` under the context-specific tag ``number`` (explicit when constructed)."""
    return tlv((0xA0 if constructed else 0x80) | number, content)


@functools.cache
def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form. Raises DerError when it isn't one."""
    try:
        arcs = [int(arc) for arc in dotted.split(".") if arc.isascii() and arc.isdigit()]
    except ValueError as error:
        raise DerError("an arc is too long") from error
    if len(arcs) != dotted.count(".") + 1 or len(arcs) < 2:
        raise DerError(f"{dotted!r} is not an object identifier")
    if arcs[0] > 2 or (arcs[0] < 2 and arcs[1] > 39):
        raise DerError(f"{dotted!r} has first arcs that X.660 doesn't allow")
    content = b"".join(_base128(arc) for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]))
    return tlv(OID, content)


def _base128(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(0x80 | (value & 0x7F))
    return bytes(reversed(octets))


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Return an X.509 Extension around the encoded ``value`` (RFC 5280 section 4.1)."""
    parts = (oid(dotted), TRUE) if critical else (oid(dotted),)
    return sequence(*parts, octet_string(value))


@functools.lru_cache(maxsize=8192)
def _date_digits(day: int) -> bytes:
    date = time.gmtime(day * _SECONDS_PER_DAY)
    return f"{date.tm_year:04d}{date.tm_mon:02d}{date.tm_mday:02d}".encode()


# A CRL of a million entries formats a million times of day.
_MINUTES = tuple(f"{hour:02d}{minute:02d}".encode() for hour in range(24) for minute in range(60))
_SECONDS = tuple(f"{second:02d}Z".encode() for second in range(60))


def generalized_time(at: int) -> bytes:
    """Return whole seconds since the epoch as a GeneralizedTime (RFC 5280 section 4.1.2.5.2).

    Raises ConfigError for a time that has no such form: a year of five digits would be signed as
    broken DER.
    """
    if not 0 <= at <= LAST_SECOND:
        raise ConfigError(f"{at} is no time that a certificate or CRL can write")
    day, second = divmod(at, _SECONDS_PER_DAY)
    return b"\x18\x0f" + _date_digits(day) + _MINUTES[second // 60] + _SECONDS[second % 60]


def x509_time(at: int) -> bytes:
    """Return whole seconds since the epoch as the Time of RFC 5280 (UTCTime until 2049).

    Raises ConfigError for a time that has no such form.
    """
    if not 0 <= at < _FIRST_SECOND_OF_2050:
        return generalized_time(at)
    day, second = divmod(at, _SECONDS_PER_DAY)
    return b"\x17\x0d" + _date_digits(day)[2:] + _MINUTES[second // 60] + _SECONDS[second % 60]


def read(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """Return tag, content start and content end of the element at ``offset``.

    Raises DerError on a high tag number, an indefinite or padded length, or missing bytes.
    """
    size = len(data)
    if offset + 2 > size:
        raise DerError("the data ends inside an element")
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if tag & 0x1F == 0x1F:
        raise DerError("high tag numbers aren't used here")
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > size:
            raise DerError("the length is indefinite, too long or cut off")
        length = int.from_bytes(data[start : start + count], "big")
        if length < 0x80 or length >> (8 * (count - 1)) == 0:
            raise DerError("the length isn't encoded in the fewest octets")
        start += count
    if start + length > size:
        raise DerError("the data ends inside an element")
    return tag, start, start + length


def read_all(data: bytes, tag: int) -> bytes:
    """Return the content of the one element with ``tag`` that ``data`` consists of."""
    found, start, end = read(data)
    if found != tag or end != len(data):
        raise DerError(f"expected exactly one element with tag 0x{tag:02x}")
    return data[start:end]


def children(content: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return (tag, content, whole encoding) of each element that ``content`` is made of."""
    found = []
    offset, size = 0, len(content)
    while offset < size:
        start = offset + 2
        # Nearly all elements are short; the others take the careful way.
        if start <= size and content[offset + 1] < 0x80 and content[offset] & 0x1F != 0x1F:
            tag, end = content[offset], start + content[offset + 1]
            if end > size:
                raise DerError("the data ends inside an element")
        else:
            tag, start, end = read(content, offset)
        found.append((tag, content[start:end], content[offset:end]))
        offset = end
    return found


def decode_integer(content: bytes) -> int:
    """Return the value of an INTEGER's content. Raises DerError when it isn't minimal."""
    if not content:
        raise DerError("an INTEGER without content")
    if len(content) > 1 and (
        (content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80)
    ):
        raise DerError("an INTEGER isn't encoded in the fewest octets")
    return int.from_bytes(content, "big", signed=True)


def decode_oid(content: bytes) -> str:
    """Return the dotted form of an OBJECT IDENTIFIER's content."""
    arcs: list[int] = []
    value, fresh = 0, True
    for octet in content:
        if fresh and octet == 0x80:
            raise DerError("an object identifier arc is padded")
        value, fresh = (value << 7) | (octet & 0x7F), octet < 0x80
        if fresh:
            arcs.append(value)
            value = 0
    if not arcs or not fresh or len(content) > 64:
        raise DerError("an object identifier is empty, cut off or too long")
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


@functools.lru_cache(maxsize=1024)
def decode_time(tag: int, content: bytes) -> int:
    """Return the seconds since the epoch of a UTCTime or GeneralizedTime of RFC 5280's form."""
    width = {UTC_TIME: 2, GENERALIZED_TIME: 4}.get(tag, 0)
    if len(content) != width + 11 or content[-1:] != b"Z" or not content[:-1].isdigit():
        raise DerError("not a time in the form of RFC 5280")
    year = int(content[:width])
    if width == 2:
        year += 1900 if year >= 50 else 2000
    parts = [int(content[at : at + 2]) for at in range(width, width + 10, 2)]
    try:
        moment = datetime.datetime(year, *parts, tzinfo=datetime.UTC)  # type: ignore[misc, arg-type]
    except ValueError as error:
        raise DerError("not a date that exists") from error
    return int(moment.timestamp())
