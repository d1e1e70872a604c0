"""What one end of a connection is willing to do."""

from __future__ import annotations

from dataclasses import dataclass

from node_agent.errors import ConfigError
from node_agent.wire.frames import FRAME_OVERHEAD_BYTES, MINIMUM_FRAME_BYTES

__all__ = ["HelloInfo", "WireSettings"]


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Limits and patience of this end.

    - ``max_frame_bytes``: the largest frame we take. 64 KiB keeps a large body from standing in
      the way of small calls for longer than half a millisecond on a 1 Gbit/s link.
    - ``max_message_bytes``: the largest request or answer message; gRPC's default is 4 MiB too.
      What is larger goes into a body, which streams.
    - ``stream_window_bytes``: what a stream may have on its way; 256 KiB fill 10 Mbit/s at 200 ms.
    - ``message_budget_bytes``: what messages above the window may hold in each direction, so that
      a flooding peer with all its credits holds about twice this and not credits x message.
    - ``credits``: parallel requests granted to the peer.
    - ``keep_alive_seconds``: silence before a ping; ``keep_alive_timeout_seconds``: silence after
      one at which the session fails. Firewalls forget idle flows after 60 s or more.
    - ``message_timeout_seconds``: how long the message of a request may take to arrive: 4 MiB at
      1.2 Mbit/s, and no longer than a call of ours waits for its answer.
    - ``write_stall_seconds``: how long nothing may prove that the peer reads before it fails.

    Raises ConfigError on values that can't work.
    """

    max_frame_bytes: int = 65_536
    max_message_bytes: int = 4 * 1024 * 1024
    stream_window_bytes: int = 262_144
    message_budget_bytes: int = 16 * 1024 * 1024
    credits: int = 50
    keep_alive_seconds: float = 15.0
    keep_alive_timeout_seconds: float = 10.0
    hello_timeout_seconds: float = 10.0
    write_stall_seconds: float = 30.0
    message_timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.max_frame_bytes < MINIMUM_FRAME_BYTES:
            raise ConfigError(f"must be at least {MINIMUM_FRAME_BYTES}", where="max_frame_bytes")
        if self.stream_window_bytes < self.chunk_bytes:
            raise ConfigError(
                f"must be at least {self.chunk_bytes}, one frame", where="stream_window_bytes"
            )
        for name in (
            "keep_alive",
            "keep_alive_timeout",
            "hello_timeout",
            "write_stall",
            "message_timeout",
        ):
            if getattr(self, f"{name}_seconds") <= 0:
                raise ConfigError("must be positive", where=f"{name}_seconds")

    @property
    def chunk_bytes(self) -> int:
        """The largest payload of one frame that we take."""
        return self.max_frame_bytes - FRAME_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class HelloInfo:
    """What both ends know of each other from their certificates before any frame is sent."""

    node: str
    peer: str
