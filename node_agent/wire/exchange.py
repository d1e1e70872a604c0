"""Requests and answers over streams: what the two ends say to each other once Hello is through."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from node_agent.errors import LocalProtocolError, RemoteProtocolError
from node_agent.wire import events
from node_agent.wire.codes import Code
from node_agent.wire.frames import (
    FRAME_OVERHEAD_BYTES,
    MAX_DEADLINE_MS,
    Answer,
    Cancel,
    Data,
    Hello,
    Open,
    Window,
)
from node_agent.wire.inbound import Inbound
from node_agent.wire.states import StreamInput, StreamState
from node_agent.wire.stream import Stream
from node_agent.wire.window import SendWindow

if TYPE_CHECKING:
    from node_agent.wire.outgoing import Outgoing
    from node_agent.wire.settings import WireSettings
    from node_agent.wire.window import CreditGrant

__all__ = ["Exchange"]

_NOTHING: Final = memoryview(b"")


class Exchange:
    """All streams of one connection. Appends to ``outgoing`` and ``happened``, never waits."""

    def __init__(
        self,
        settings: WireSettings,
        outgoing: Outgoing,
        happened: list[events.Event],
        *,
        granted: CreditGrant,
        initiator: bool,
    ) -> None:
        self._send = outgoing.send
        self._happened = happened
        self._inbound = Inbound(settings, outgoing.send, happened)
        # The dialling end has the odd ids, the listening end the even ones (RFC 9113, 5.1.1).
        self._parity = 1 if initiator else 0
        self._next_id = 1 if initiator else 2
        self._chunk_bytes = 0
        self._peer_message_bytes = 0
        self._peer_window_bytes = 0
        self.streams: dict[int, Stream] = {}
        self.last_peer_stream = 0
        self.in_flight = 0
        self.serving = 0
        self.peer_credits = 0
        self._granted = granted

    def begin(self, hello: Hello) -> None:
        """Adopt the peer's limits."""
        self._chunk_bytes = hello.max_frame_bytes - FRAME_OVERHEAD_BYTES
        self._peer_message_bytes = hello.max_message_bytes
        self._peer_window_bytes = hello.stream_window_bytes
        self.peer_credits = hello.credits

    # What we say.

    def open(
        self,
        method: str,
        message: bytes,
        *,
        request_id: bytes,
        deadline_seconds: float,
        has_body: bool,
    ) -> int:
        """Send a request and return its stream. Raises LocalProtocolError."""
        if self.in_flight >= self.peer_credits:
            raise LocalProtocolError("the peer has granted no further request")
        size = self._checked_size(message)
        first = message[: self._first_chunk()]
        is_whole = len(first) == size and not has_body
        stream = Stream(self._next_id, is_ours=True)
        stream.send(StreamInput.OPEN_END if is_whole else StreamInput.OPEN)
        self._next_id += 2
        self.streams[stream.id] = stream
        self.in_flight += 1
        deadline_ms = min(MAX_DEADLINE_MS, max(0, math.ceil(deadline_seconds * 1000)))
        self._send(Open(stream.id, method, request_id, deadline_ms, size, first, is_whole))
        if not is_whole:
            stream.has_body = has_body
            self._send_rest(stream, message, len(first), is_last=not has_body)
        return stream.id

    def send_answer(self, stream_id: int, status: int, message: bytes) -> None:
        """Answer a request of the peer's. Raises LocalProtocolError."""
        stream = self._known(stream_id)
        if stream.is_ours:
            raise LocalProtocolError("only the other end answers a request")
        size = self._checked_size(message)
        first = message[: self._first_chunk()]
        is_whole = len(first) == size
        stream.send(StreamInput.ANSWER_END if is_whole else StreamInput.ANSWER)
        self._send(Answer(stream_id, status, size, first, is_whole))
        if is_whole:
            self._close(stream)
        else:
            self._send_rest(stream, message, len(first), is_last=True)

    def send_body(self, stream_id: int, data: bytes, *, end: bool) -> bool:
        """Send more of a request's body; True when all of it has left.

        After False, wait for BodySent before giving more. Raises LocalProtocolError.
        """
        stream = self._known(stream_id)
        if not stream.is_ours or not stream.has_body or stream.outbox_end:
            raise LocalProtocolError(f"stream {stream_id} takes no body")
        assert stream.outbox is not None
        if data:
            stream.outbox.append(memoryview(data))
        stream.outbox_end = end
        self._pump(stream)
        return not stream.outbox

    def cancel(self, stream_id: int, code: int) -> None:
        """End a stream from our side. Raises LocalProtocolError when there is none."""
        stream = self._known(stream_id)
        stream.send(StreamInput.CANCEL)
        self._send(Cancel(stream_id, code))
        self._close(stream)

    def consumed(self, stream_id: int, size: int) -> None:
        """Note that ``size`` bytes of a body have been used up, so that more may come."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._inbound.consumed(stream, size)

    # What the peer says.

    @property
    def message_due(self) -> float | None:
        """When the next message that isn't complete has to be, None while there is none."""
        return self._inbound.message_due

    def has_stalled(self, now: float) -> bool:
        """Tell whether the peer has left a message unfinished for too long."""
        return self._inbound.has_stalled(now)

    def on_open(self, frame: Open, now: float) -> None:
        """Take in a request."""
        self._check_new_id(frame.stream)
        if self.serving >= self._granted.allowed:
            raise RemoteProtocolError("more requests than granted", code=Code.CREDITS_EXCEEDED)
        self.last_peer_stream = frame.stream
        stream = Stream(frame.stream, is_ours=False)
        stream.receive(StreamInput.OPEN_END if frame.end else StreamInput.OPEN)
        self.streams[frame.stream] = stream
        self.serving += 1
        self._inbound.start_request(stream, frame, now)

    def refuse_open(self, frame: Open) -> None:
        """Turn a request away that was sent before our GOAWAY was read."""
        self._check_new_id(frame.stream)
        self.last_peer_stream = frame.stream
        self._send(Cancel(frame.stream, Code.REFUSED))

    def on_data(self, frame: Data) -> None:
        """Take in more of a request or of an answer."""
        stream = self._find(frame.stream)
        if stream is None:
            return
        if stream.is_ours:
            what = StreamInput.ANSWER_DATA_END if frame.end else StreamInput.ANSWER_DATA
        else:
            what = StreamInput.REQUEST_DATA_END if frame.end else StreamInput.REQUEST_DATA
        stream.receive(what)
        self._inbound.take(stream, frame.payload, end=frame.end)
        if stream.state is StreamState.CLOSED:
            self._close(stream)

    def on_answer(self, frame: Answer) -> None:
        """Take in the start of an answer."""
        stream = self._find(frame.stream)
        if stream is None:
            return
        if not stream.is_ours:
            raise RemoteProtocolError("an answer to the peer's own request", code=Code.PROTOCOL)
        stream.receive(StreamInput.ANSWER_END if frame.end else StreamInput.ANSWER)
        self._inbound.start_answer(stream, frame)
        if stream.state is StreamState.CLOSED:
            self._close(stream)

    def on_window(self, frame: Window) -> None:
        """Send what the peer has made room for."""
        stream = self._find(frame.stream)
        if stream is None:
            return
        ours = stream.is_ours
        stream.receive(StreamInput.REQUEST_WINDOW if ours else StreamInput.ANSWER_WINDOW)
        if stream.send_window is not None:
            stream.send_window.extend(frame.size)
            was_full = bool(stream.outbox)
            self._pump(stream)
            if was_full and not stream.outbox and not stream.outbox_end:
                self._happened.append(events.BodySent(stream.id))

    def on_cancel(self, frame: Cancel) -> None:
        """Forget a stream that the peer ended."""
        stream = self._find(frame.stream)
        if stream is None:
            return
        stream.receive(StreamInput.CANCEL)
        self._close(stream)
        self._happened.append(events.StreamCancelled(stream.id, frame.code))

    def on_last_stream(self, last_stream: int) -> None:
        """Give up the requests that the peer says it won't look at."""
        refused = [s for s in self.streams.values() if s.is_ours and s.id > last_stream]
        for stream in refused:
            stream.receive(StreamInput.CANCEL)
            self._close(stream)
            self._happened.append(events.StreamCancelled(stream.id, Code.REFUSED))

    # Bookkeeping.

    def _known(self, stream_id: int) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"stream {stream_id} is closed")
        return stream

    def _find(self, stream_id: int) -> Stream | None:
        """Return a stream, None when it is closed already. Raises RemoteProtocolError."""
        stream = self.streams.get(stream_id)
        if stream is None:
            ours = stream_id % 2 == self._parity
            if stream_id >= self._next_id if ours else stream_id > self.last_peer_stream:
                raise RemoteProtocolError(f"stream {stream_id} was never open", code=Code.PROTOCOL)
        return stream

    def _check_new_id(self, stream_id: int) -> None:
        if stream_id % 2 == self._parity or stream_id <= self.last_peer_stream:
            raise RemoteProtocolError(f"stream {stream_id} can't be opened", code=Code.PROTOCOL)

    def _checked_size(self, message: bytes) -> int:
        size = len(message)
        if size > self._peer_message_bytes:
            raise LocalProtocolError(
                f"a message of {size} bytes; the peer takes {self._peer_message_bytes}"
            )
        return size

    def _first_chunk(self) -> int:
        return min(self._chunk_bytes, self._peer_window_bytes)

    def _send_rest(self, stream: Stream, message: bytes, sent: int, *, is_last: bool) -> None:
        stream.send_window = SendWindow(self._peer_window_bytes - sent)
        rest = memoryview(message)[sent:]
        stream.outbox = deque((rest,)) if rest else deque()
        stream.outbox_end = is_last
        self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        """Send as much of the outbox as the window and the frame size allow."""
        outbox, window = stream.outbox, stream.send_window
        assert outbox is not None
        assert window is not None
        while outbox:
            head = outbox[0]
            size = window.take(min(len(head), self._chunk_bytes))
            if not size:
                return
            if size == len(head):
                outbox.popleft()
            else:
                outbox[0] = head[size:]
            self._send_data(stream, head[:size], end=stream.outbox_end and not outbox)
        if stream.outbox_end and stream.send_window is not None:
            self._send_data(stream, _NOTHING, end=True)

    def _send_data(self, stream: Stream, payload: memoryview, *, end: bool) -> None:
        if stream.is_ours:
            what = StreamInput.REQUEST_DATA_END if end else StreamInput.REQUEST_DATA
        else:
            what = StreamInput.ANSWER_DATA_END if end else StreamInput.ANSWER_DATA
        stream.send(what)
        self._send(Data(stream.id, bytes(payload), end))
        if end:
            stream.send_window = None
        if stream.state is StreamState.CLOSED:
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        del self.streams[stream.id]
        if stream.is_ours:
            self.in_flight -= 1
        else:
            self.serving -= 1
        self._inbound.forget(stream, self.streams)
