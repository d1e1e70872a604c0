"""Between the forms of the wire (DER, numbers) and those that people are shown (PEM, words)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from node_agent.errors import RequestRefused
from node_agent.web.backends import REASON_NUMBERS, RevocationReason

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "certificate_pem",
    "chain_pem",
    "decode_cursor",
    "encode_cursor",
    "pem",
    "reason_name",
]

Cursor = tuple[int, str, int]
"""issued_at, authority_id, serial of the last certificate of a page."""

_REASON_NAMES: dict[int, RevocationReason] = {
    number: name  # type: ignore[misc]
    for name, number in REASON_NUMBERS.items()
}


def pem(label: str, der: bytes) -> str:
    """Return ``der`` in the textual encoding of RFC 7468."""
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def certificate_pem(der: bytes) -> str:
    """Return a certificate as PEM."""
    return pem("CERTIFICATE", der)


def chain_pem(chain: Iterable[bytes]) -> str:
    """Return certificates as one PEM text, in the given order."""
    return "".join(certificate_pem(der) for der in chain)


def reason_name(number: int | None) -> RevocationReason | None:
    """Return the RFC 5280 name of a CRLReason number."""
    return None if number is None else _REASON_NAMES.get(number, "unspecified")


def encode_cursor(cursor: Cursor | None) -> str | None:
    """Return a search position as opaque text."""
    if cursor is None:
        return None
    at, authority, serial = cursor
    packed = msgspec.json.encode([at, authority, f"{serial:x}"])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(text: str | None) -> Cursor | None:
    """Return the search position in ``text``. Raises RequestRefused when it isn't one."""
    if text is None:
        return None
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        at, authority, serial = msgspec.json.decode(packed, type=tuple[int, str, str])
        return at, authority, int(serial, 16)
    except (ValueError, msgspec.DecodeError) as error:
        raise RequestRefused(
            "the search position is not one that was given out",
            field="after",
            remedy="use the value of next, or leave it out",
        ) from error
