"""Types of fields that messages have in common: a value out of its bounds is refused unread."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Digest", "Number", "Serial"]

Serial = Annotated[bytes, msgspec.Meta(min_length=1, max_length=20)]
"""A serial number as big-endian octets (RFC 5280 section 4.1.2.2 has the limit)."""

Digest = Annotated[bytes, msgspec.Meta(max_length=32)]
"""SHA-256 of what is there; empty for nothing."""

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What is counted or numbered: as much as a store's column holds."""
