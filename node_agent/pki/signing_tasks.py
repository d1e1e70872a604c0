"""What a signing worker is asked and answers, and the frames that carry it.

A frame is a 4-byte length and MessagePack, on the pipes between agent and worker and nowhere else.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "MAX_FRAME_BYTES",
    "Answer",
    "DiscardTask",
    "Fault",
    "GenerateTask",
    "OpenPkcs11Task",
    "OpenSoftTask",
    "OpenTask",
    "SignTask",
    "Task",
    "decode_answer",
    "decode_task",
    "encode_frame",
]

# A CRL of a million entries, the largest thing that is ever signed whole, has 40 MB.
MAX_FRAME_BYTES = 1 << 28


class OpenSoftTask(msgspec.Struct, tag=True, frozen=True):
    """Learn a soft token's passphrase and scrypt cost. Answered with an empty result."""

    token: str
    passphrase: bytes
    cost: tuple[int, int, int]


class OpenPkcs11Task(msgspec.Struct, tag=True, frozen=True):
    """Log in to a token of a PKCS #11 module: the one token with that label, serial number and
    slot, as far as they are given. Answered with an empty result.

    ``is_ordered``: somebody said that the PIN is right, so that even its last try may be used.
    """

    token: str
    token_name: str
    module: str
    label: str | None
    serial: str | None
    slot: int | None
    pin: str
    is_ordered: bool

    def __repr__(self) -> str:
        return f"OpenPkcs11Task({self.token!r})"


class SignTask(msgspec.Struct, tag=True, frozen=True):
    """Sign ``data`` (or the digest that it is) with a key of an opened token.

    ``private_part`` and ``public_der`` are the key as its token recorded it. ``keep``: an opened
    key may stay in memory.
    """

    token: str
    kind: str
    private_part: bytes
    public_der: bytes
    data: bytes
    is_digest: bool
    keep: bool


class GenerateTask(msgspec.Struct, tag=True, frozen=True):
    """Make a key; the result is its private part, as the token records it, and its public half.

    ``label`` is the key's name where the token shows names. ``sibling`` is the private part of
    another key of a soft token, or empty: the new key must open with the same passphrase, and
    joins its scrypt salt.
    """

    token: str
    kind: str
    label: str
    sibling: bytes


class DiscardTask(msgspec.Struct, tag=True, frozen=True):
    """Remove a key that was made for a plan which then failed. Answered with an empty result."""

    token: str
    private_part: bytes


OpenTask = OpenSoftTask | OpenPkcs11Task
Task = OpenTask | SignTask | GenerateTask | DiscardTask

Fault = Literal["", "config", "token", "closed", "lost"]


class Answer(msgspec.Struct, frozen=True):
    """Result parts, or a failure (its text) and what kind of error it is here."""

    parts: tuple[bytes, ...] = ()
    failure: str = ""
    fault: Fault = ""


decode_task = msgspec.msgpack.Decoder(Task).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def encode_frame(message: Task | Answer) -> bytes:
    """Return the length-prefixed frame of ``message``."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body
