"""Frames on their way out, collected so that one write carries many."""

from __future__ import annotations

from node_agent.wire.frames import Frame, encode_frame

__all__ = ["Outgoing"]


class Outgoing:
    """Encoded frames in order."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: list[bytes] = []

    def send(self, frame: Frame) -> None:
        """Append a frame."""
        self._frames.append(encode_frame(frame))

    def take(self) -> bytes:
        """Return everything collected so far and forget it."""
        frames = self._frames
        if not frames:
            return b""
        self._frames = []
        return frames[0] if len(frames) == 1 else b"".join(frames)
