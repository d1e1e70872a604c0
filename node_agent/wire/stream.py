"""One stream: a request, its answer, and how far both have come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.errors import LocalProtocolError, RemoteProtocolError
from node_agent.wire.codes import Code
from node_agent.wire.states import StreamInput, StreamState, next_stream_state

if TYPE_CHECKING:
    from collections import deque

    from node_agent.wire.frames import Open
    from node_agent.wire.window import ReceiveWindow, SendWindow

__all__ = ["Stream"]


class Stream:
    """State and bookkeeping of a stream.

    Windows are made only for what doesn't fit into one frame: a small call never needs them.
    ``missing_bytes`` counts what is still to come of the message we receive, ``unread_bytes`` what
    of it can't be given back yet because it waits for the message budget.
    """

    __slots__ = (
        "answer_status",
        "has_body",
        "id",
        "is_ours",
        "is_reserved",
        "missing_bytes",
        "outbox",
        "outbox_end",
        "parts",
        "receive_window",
        "request",
        "send_window",
        "state",
        "unread_bytes",
        "was_delivered",
    )

    def __init__(self, stream: int, *, is_ours: bool) -> None:
        self.id = stream
        self.is_ours = is_ours
        self.state = StreamState.IDLE
        self.has_body = False
        self.send_window: SendWindow | None = None
        self.receive_window: ReceiveWindow | None = None
        self.outbox: deque[memoryview] | None = None
        self.outbox_end = False
        self.request: Open | None = None
        self.answer_status = 0
        self.missing_bytes = 0
        self.unread_bytes = 0
        self.parts: list[bytes] = []
        self.is_reserved = True
        self.was_delivered = False

    def send(self, what: StreamInput) -> None:
        """Take the step that our own frame makes. Raises LocalProtocolError."""
        after = next_stream_state(self.state, what)
        if after is None:
            raise LocalProtocolError(
                f"{what.name} isn't possible on stream {self.id} in {self.state.name}"
            )
        self.state = after

    def receive(self, what: StreamInput) -> None:
        """Take the step that the peer's frame makes. Raises RemoteProtocolError."""
        after = next_stream_state(self.state, what)
        if after is None:
            raise RemoteProtocolError(
                f"{what.name} isn't allowed on stream {self.id} in {self.state.name}",
                code=Code.PROTOCOL,
            )
        self.state = after

    @property
    def takes_more(self) -> bool:
        """Whether the peer still has something to send on this stream."""
        if self.is_ours:
            return self.state is not StreamState.CLOSED
        return self.state in (StreamState.REQUESTING, StreamState.ANSWERING_EARLY)
