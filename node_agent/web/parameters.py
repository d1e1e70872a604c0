"""Path parameters that both APIs share."""

from __future__ import annotations

import re
from http import HTTPStatus

from node_agent.web.approval_bodies import APPROVAL_PATTERN
from node_agent.web.problems import refuse

__all__ = ["SERIAL_PATTERN", "parse_approval", "parse_serial"]

# RFC 5280 section 4.1.2.2 limits a serial number to 20 octets. Colons and upper case, as other
# programs print serial numbers, are not read: one spelling, one certificate.
SERIAL_PATTERN = r"^[0-9a-f]{1,40}$"
_SERIAL = re.compile(SERIAL_PATTERN)
_APPROVAL = re.compile(APPROVAL_PATTERN)


def parse_serial(text: str) -> int:
    """Return the serial number that ``text`` writes. Raises ProblemRaised (400)."""
    if not _SERIAL.fullmatch(text):
        raise refuse(
            HTTPStatus.BAD_REQUEST,
            "bad-serial",
            "not a serial number",
            field_name="serial",
            remedy="write lower-case hexadecimal without separators, at most 40 digits",
        )
    return int(text, 16)


def parse_approval(text: str) -> bytes:
    """Return the digest that names a request for approval. Raises ProblemRaised (400)."""
    if not _APPROVAL.fullmatch(text):
        raise refuse(
            HTTPStatus.BAD_REQUEST,
            "bad-approval",
            "not the name of a request for approval",
            field_name="approval",
            remedy="use the value of approval: 64 lower-case hexadecimal digits",
        )
    return bytes.fromhex(text)
