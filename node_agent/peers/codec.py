"""MessagePack as this package uses it."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["ENCODER", "UNREADABLE"]

ENCODER: Final = msgspec.msgpack.Encoder()

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything that decoding a stranger's bytes into a schema can raise."""
