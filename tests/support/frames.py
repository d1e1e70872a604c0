"""Frames with sane defaults, and two protocol cores wired to each other without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from node_agent.wire import frames
from node_agent.wire.buffer import FrameBuffer
from node_agent.wire.connection import Connection
from node_agent.wire.settings import HelloInfo, WireSettings

if TYPE_CHECKING:
    from node_agent.wire.events import Event

__all__ = ["DIALLER", "LISTENER", "REQUEST_ID", "Pair", "decoded", "make", "only"]

DIALLER = "spiffe://test.example/node/ca1"
LISTENER = "spiffe://test.example/node/ra1"
REQUEST_ID = bytes(range(16))

FrameT = TypeVar("FrameT")
EventT = TypeVar("EventT")

_DEFAULTS: dict[type[Any], dict[str, Any]] = {
    frames.Hello: {
        "lowest_version": 1,
        "highest_version": 1,
        "node": DIALLER,
        "max_frame_bytes": 65_536,
        "max_message_bytes": 4 * 1024 * 1024,
        "stream_window_bytes": 262_144,
        "credits": 50,
    },
    frames.Open: {
        "stream": 1,
        "method": "ra.enroll",
        "request_id": REQUEST_ID,
        "deadline_ms": 5000,
        "message_bytes": 5,
        "payload": b"hello",
        "end": True,
    },
    frames.Data: {"stream": 1, "payload": b"more", "end": False},
    frames.Answer: {
        "stream": 1,
        "status": 0,
        "message_bytes": 2,
        "payload": b"ok",
        "end": True,
    },
    frames.Window: {"stream": 1, "size": 65_536},
    frames.Credits: {"parallel_requests": 50},
    frames.Demand: {"queued": 3},
    frames.Cancel: {"stream": 1, "code": 12},
    frames.Ping: {"token": b"\0\0\0\0\0\0\0\1"},
    frames.Pong: {"token": b"\0\0\0\0\0\0\0\1"},
    frames.GoAway: {"code": 0, "last_stream": 0, "reason": ""},
}


def make(kind: type[FrameT], **overrides: Any) -> FrameT:
    """Return a frame of ``kind`` that is valid but for what ``overrides`` say."""
    return kind(**{**_DEFAULTS[kind], **overrides})


def decoded(data: bytes, *, max_frame_bytes: int = 1 << 20) -> list[frames.Frame]:
    """Return all frames that ``data`` holds."""
    return list(FrameBuffer(max_frame_bytes).feed(data))


@dataclass
class Pair:
    """A dialling and a listening core, with a clock that the test moves."""

    dialler_settings: WireSettings = field(default_factory=WireSettings)
    listener_settings: WireSettings = field(default_factory=WireSettings)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.dialler = Connection(
            self.dialler_settings, initiator=True, local=HelloInfo(DIALLER, LISTENER)
        )
        self.listener = Connection(
            self.listener_settings, initiator=False, local=HelloInfo(LISTENER, DIALLER)
        )

    def greet(self) -> Pair:
        """Start both ends and get them through Hello; forget the events of that."""
        self.dialler.start(self.now)
        self.listener.start(self.now)
        self.shuttle()
        self.dialler.next_events()
        self.listener.next_events()
        return self

    def shuttle(self) -> None:
        """Carry bytes both ways until nobody has any."""
        while True:
            up, down = self.dialler.data_to_send(), self.listener.data_to_send()
            if not up and not down:
                return
            if up:
                self.listener.receive_data(up, self.now)
            if down:
                self.dialler.receive_data(down, self.now)

    def tell_listener(self, *sent: frames.Frame) -> list[Event]:
        """Hand frames to the listening core as if the peer had sent them; return what happened."""
        for frame in sent:
            self.listener.receive_data(frames.encode_frame(frame), self.now)
        return self.listener.next_events()

    def tell_dialler(self, *sent: frames.Frame) -> list[Event]:
        """Hand frames to the dialling core as if the peer had sent them; return what happened."""
        for frame in sent:
            self.dialler.receive_data(frames.encode_frame(frame), self.now)
        return self.dialler.next_events()

    def open(self, message: bytes = b"hello", *, has_body: bool = False) -> int:
        """Let the dialler open a request."""
        return self.dialler.open_stream(
            "ra.enroll",
            message,
            request_id=REQUEST_ID,
            deadline_seconds=5.0,
            has_body=has_body,
        )


def only(happened: list[Event], kind: type[EventT]) -> list[EventT]:
    """Return the events of one kind."""
    return [event for event in happened if isinstance(event, kind)]
