"""Path parameters that both APIs share."""

from __future__ import annotations

import re
from http import HTTPStatus

from node_agent.web.problems import refuse

__all__ = ["SERIAL_PATTERN", "parse_serial"]

# RFC 5280 section 4.1.2.2 limits a serial number to 20 octets. Colons and upper case, as other
# programs print serial numbers, are not read: one spelling, one certificate.
SERIAL_PATTERN = r"^[0-9a-f]{1,40}$"
_SERIAL = re.compile(SERIAL_PATTERN)


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
