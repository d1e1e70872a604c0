"""What the protocol core tells its shell. Time and bytes are plain numbers, streams are ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from node_agent.errors import RemoteProtocolError

__all__ = [
    "AnswerReceived",
    "BodyReceived",
    "BodySent",
    "ConnectionEnded",
    "CreditsChanged",
    "DemandReceived",
    "DrainStarted",
    "Event",
    "HelloReceived",
    "PongReceived",
    "RequestReceived",
    "StreamCancelled",
]


class _Event(msgspec.Struct, frozen=True, gc=False):
    pass


class HelloReceived(_Event, frozen=True):
    """The peer introduced itself: compare ``node`` with its certificate before anything else."""

    node: str
    version: int


class RequestReceived(_Event, frozen=True):
    """A request whose message is complete; ``deadline_seconds`` is the time left.

    With ``has_body``, BodyReceived events follow.
    """

    stream: int
    method: str
    request_id: bytes
    deadline_seconds: float
    message: bytes
    has_body: bool


class BodyReceived(_Event, frozen=True):
    """Part of a request's body. Say ``consumed`` once it has been used up."""

    stream: int
    data: bytes
    end: bool


class BodySent(_Event, frozen=True):
    """Everything given to ``send_body`` so far has left: give more."""

    stream: int


class AnswerReceived(_Event, frozen=True):
    """The complete answer to a request of ours. The stream is gone and its credit is free."""

    stream: int
    status: int
    message: bytes


class StreamCancelled(_Event, frozen=True):
    """The peer ended the stream. The stream is gone."""

    stream: int
    code: int


class CreditsChanged(_Event, frozen=True):
    """``available_credits`` may have grown or shrunk without a stream of ours having ended."""


class DemandReceived(_Event, frozen=True):
    """So many requests wait at the peer for a credit of ours."""

    queued: int


class PongReceived(_Event, frozen=True):
    """A ping of ours came back."""

    token: bytes
    round_trip_seconds: float


class DrainStarted(_Event, frozen=True):
    """The peer goes away in peace: open streams finish, no new ones start."""

    reason: str


class ConnectionEnded(_Event, frozen=True):
    """The connection is over: flush what ``data_to_send`` returns, then close the transport.

    ``error`` is set when the peer broke the protocol.
    """

    code: int
    reason: str
    by_peer: bool
    error: RemoteProtocolError | None = None


Event = (
    HelloReceived
    | RequestReceived
    | BodyReceived
    | BodySent
    | AnswerReceived
    | StreamCancelled
    | CreditsChanged
    | DemandReceived
    | PongReceived
    | DrainStarted
    | ConnectionEnded
)
