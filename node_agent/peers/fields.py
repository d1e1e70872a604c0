"""Types of fields that messages have in common: a value out of its bounds is refused unread."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "Bucket",
    "Digest",
    "Number",
    "Prefix",
    "Receipt",
    "Serial",
    "serial_number",
    "serial_octets",
]

Serial = Annotated[bytes, msgspec.Meta(min_length=1, max_length=20)]
"""A serial number as big-endian octets (RFC 5280 section 4.1.2.2 has the limit)."""

Digest = Annotated[bytes, msgspec.Meta(max_length=32)]
"""SHA-256 of what is there; empty for nothing."""

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What is counted or numbered: as much as a store's column holds."""

Prefix = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,3}$")]
Bucket = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Receipt = Annotated[bytes, msgspec.Meta(max_length=64)]


def serial_octets(serial: int) -> bytes:
    """Return a serial number as big-endian octets without leading zeros."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big")


def serial_number(octets: bytes) -> int:
    """Return the serial number in ``octets``. Raises ValueError above 20 octets (RFC 5280)."""
    if not 1 <= len(octets) <= 20:
        raise ValueError("a serial number has from 1 to 20 octets")
    return int.from_bytes(octets, "big")
