"""What arrives on streams: messages are put together, bodies passed on, windows given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.errors import RemoteProtocolError
from node_agent.wire import events
from node_agent.wire.codes import Code
from node_agent.wire.frames import Answer, Frame, Open, Window
from node_agent.wire.window import MessageBudget, ReceiveWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from node_agent.wire.settings import WireSettings
    from node_agent.wire.stream import Stream

__all__ = ["Inbound"]

# Who gives a request up at its deadline cancels it; what was sent before that comes first.
_CANCEL_SECONDS: Final = 5.0


class Inbound:
    """The receiving half of an exchange.

    Requests and answers have budgets of their own: a node that waits for answers in order to
    finish requests must not have their room taken by those requests.
    """

    def __init__(
        self,
        settings: WireSettings,
        send: Callable[[Frame], None],
        happened: list[events.Event],
    ) -> None:
        self._settings = settings
        self._send = send
        self._happened = happened
        self._requests = MessageBudget(settings.message_budget_bytes)
        self._answers = MessageBudget(settings.message_budget_bytes)
        self._incomplete: dict[Stream, float] = {}

    @property
    def message_due(self) -> float | None:
        """When the first of the requests whose message isn't complete has to be; None: none is."""
        return min(self._incomplete.values()) if self._incomplete else None

    def has_stalled(self, now: float) -> bool:
        """Tell whether a message is overdue. One that waits for room here has its time still."""
        for stream in self._incomplete:
            if not stream.is_reserved:
                self._incomplete[stream] = now + self._settings.message_timeout_seconds
        due = self.message_due
        return due is not None and now >= due

    def start_request(self, stream: Stream, frame: Open, now: float) -> None:
        """Take the first frame of a request."""
        self._check_size(frame.message_bytes)
        stream.request = frame
        if frame.end and frame.message_bytes == len(frame.payload):
            stream.was_delivered = True
            self._deliver_request(stream, frame.payload)
            return
        self._start(stream, frame.message_bytes, self._requests)
        self._incomplete[stream] = now + min(
            frame.deadline_ms / 1000 + _CANCEL_SECONDS, self._settings.message_timeout_seconds
        )
        self.take(stream, frame.payload, end=frame.end)

    def start_answer(self, stream: Stream, frame: Answer) -> None:
        """Take the first frame of an answer."""
        self._check_size(frame.message_bytes)
        if frame.end and frame.message_bytes == len(frame.payload):
            self._happened.append(events.AnswerReceived(frame.stream, frame.status, frame.payload))
            return
        stream.answer_status = frame.status
        self._start(stream, frame.message_bytes, self._answers)
        self.take(stream, frame.payload, end=frame.end)

    def take(self, stream: Stream, payload: bytes, *, end: bool) -> None:
        """Take bytes of a stream: the message first, then the body."""
        window = stream.receive_window
        assert window is not None
        window.received(len(payload))
        part = payload[: stream.missing_bytes]
        if part:
            stream.parts.append(part)
            stream.missing_bytes -= len(part)
            self._take_back(stream, len(part))
        if end and stream.missing_bytes:
            raise RemoteProtocolError("a message that ends early", code=Code.PROTOCOL)
        rest = payload[len(part) :] if part else payload
        if stream.is_ours:
            self._take_answer(stream, rest, end=end)
        elif not stream.missing_bytes:
            self._take_request(stream, rest, end=end)

    def consumed(self, stream: Stream, size: int) -> None:
        """Give back the window of ``size`` bytes, now or when enough has come together."""
        if stream.receive_window is None:
            return
        given = stream.receive_window.consumed(size)
        if given and stream.takes_more:
            self._send(Window(stream.id, given))

    def forget(self, stream: Stream, streams: Mapping[int, Stream]) -> None:
        """Release what a closed stream holds, to the messages that wait for it."""
        if stream.receive_window is None:
            return
        self._incomplete.pop(stream, None)
        budget = self._answers if stream.is_ours else self._requests
        for served in budget.release(stream.id):
            waiting = streams[served]
            waiting.is_reserved = True
            size, waiting.unread_bytes = waiting.unread_bytes, 0
            self.consumed(waiting, size)

    def _check_size(self, message_bytes: int) -> None:
        if message_bytes > self._settings.max_message_bytes:
            raise RemoteProtocolError(
                f"a message of {message_bytes} bytes; the limit is "
                f"{self._settings.max_message_bytes}",
                code=Code.FRAME_TOO_LARGE,
            )

    def _start(self, stream: Stream, message_bytes: int, budget: MessageBudget) -> None:
        stream.receive_window = ReceiveWindow(self._settings.stream_window_bytes)
        stream.missing_bytes = message_bytes
        if message_bytes > self._settings.stream_window_bytes:
            stream.is_reserved = budget.reserve(stream.id, message_bytes)

    def _take_back(self, stream: Stream, size: int) -> None:
        if stream.is_reserved:
            self.consumed(stream, size)
        else:
            stream.unread_bytes += size

    def _take_answer(self, stream: Stream, rest: bytes, *, end: bool) -> None:
        if rest:
            raise RemoteProtocolError("an answer longer than it said", code=Code.PROTOCOL)
        if end:
            message = b"".join(stream.parts)
            self._happened.append(events.AnswerReceived(stream.id, stream.answer_status, message))

    def _take_request(self, stream: Stream, rest: bytes, *, end: bool) -> None:
        if not stream.was_delivered:
            stream.was_delivered = True
            del self._incomplete[stream]
            stream.has_body = bool(rest) or not end
            message = b"".join(stream.parts)
            stream.parts = []
            self._deliver_request(stream, message)
        if stream.has_body and (rest or end):
            self._happened.append(events.BodyReceived(stream.id, rest, end))

    def _deliver_request(self, stream: Stream, message: bytes) -> None:
        request = stream.request
        assert request is not None
        stream.request = None
        self._happened.append(
            events.RequestReceived(
                stream.id,
                request.method,
                request.request_id,
                request.deadline_ms / 1000,
                message,
                stream.has_body,
            )
        )
