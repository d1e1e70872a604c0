"""Between the forms of the wire (DER, numbers) and those that people are shown (PEM, words)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, TypeVar

import msgspec

from node_agent.clock import EpochSeconds
from node_agent.errors import RequestRefused
from node_agent.web.backends import REASON_NUMBERS, RevocationReason
from node_agent.web.bodies import SerialHex

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "certificate_pem",
    "chain_pem",
    "decode_approval_cursor",
    "decode_cursor",
    "encode_approval_cursor",
    "encode_cursor",
    "pem",
    "reason_name",
]

ResultT = TypeVar("ResultT")
Cursor = tuple[int, str, int]
"""issued_at, authority_id, serial of the last certificate of a page."""

_REASON_NAMES: dict[int, RevocationReason] = {
    number: name for name, number in REASON_NUMBERS.items()
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
    return _opaque([at, authority, f"{serial:x}"])


def decode_cursor(text: str | None) -> Cursor | None:
    """Return the search position in ``text``. Raises RequestRefused when it isn't one."""
    if text is None:
        return None
    try:
        at, authority, serial = _transparent(text, tuple[EpochSeconds, str, SerialHex])
        return at, authority, int(serial, 16)
    except (ValueError, msgspec.DecodeError) as error:
        raise _not_given_out() from error


def encode_approval_cursor(cursor: tuple[int, bytes]) -> str:
    """Return a position in a list of requests for approval as opaque text."""
    return _opaque([cursor[0], cursor[1].hex()])


def decode_approval_cursor(text: str | None) -> tuple[int, bytes] | None:
    """Return the position in ``text``. Raises RequestRefused when it isn't one."""
    if text is None:
        return None
    try:
        at, request = _transparent(text, tuple[EpochSeconds, str])
        return at, bytes.fromhex(request)
    except (ValueError, msgspec.DecodeError) as error:
        raise _not_given_out() from error


def _opaque(position: list[int | str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _transparent(text: str, kind: type[ResultT]) -> ResultT:
    packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return msgspec.json.decode(packed, type=kind)


def _not_given_out() -> RequestRefused:
    return RequestRefused(
        "the search position is not one that was given out",
        field="after",
        remedy="use the value of next, or leave it out",
    )
