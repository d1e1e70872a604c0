"""Numbers on the wire: why a stream or a connection ended, and how a request was answered.

A number never changes meaning after release. A peer may send one that isn't listed here (it may
be newer); it is kept as the plain number.
"""

from __future__ import annotations

import enum

__all__ = ["Code", "Status", "code_name"]


class Code(enum.IntEnum):
    """Why a connection (GOAWAY) or a stream (CANCEL) ended."""

    NONE = 0
    """Nothing is wrong: a drain."""
    PROTOCOL = 1
    """A frame that isn't allowed now, or can't be decoded."""
    FRAME_TOO_LARGE = 2
    FLOW_CONTROL = 3
    """More bytes than the window allows."""
    CREDITS_EXCEEDED = 4
    """More parallel requests than were granted."""
    VERSION = 5
    """No protocol version in common."""
    IDENTITY = 6
    """Hello names another node than the certificate does, or not the one that was dialled."""
    UNTRUSTED = 7
    """The certificate is revoked, expired or no longer trusted, or the role was taken away."""
    HELLO_TIMEOUT = 8
    KEEP_ALIVE = 9
    """Nothing was heard for too long."""
    WRITE_STALLED = 10
    """The peer doesn't read."""
    TOO_MUCH = 11
    """Too many frames that cost the sender nothing."""
    CANCELLED = 12
    """The caller no longer wants the answer."""
    REFUSED = 13
    """The request was not looked at; it is safe to send it elsewhere."""
    INTERNAL = 14
    MESSAGE_STALLED = 15
    """The message of a request didn't come to its end in time."""


class Status(enum.IntEnum):
    """How a request was answered."""

    OK = 0
    DENIED = 1
    NOT_FOUND = 2
    INVALID = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    DEADLINE = 6
    INTERNAL = 7


def code_name(code: int) -> str:
    """Return the code's name in lower case, or its number when it isn't known here."""
    try:
        return Code(code).name.lower()
    except ValueError:
        return str(code)
