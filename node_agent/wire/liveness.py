"""When a connection has to speak up, and when it has to be given up. Time is an argument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from node_agent.wire.codes import Code

if TYPE_CHECKING:
    from node_agent.wire.settings import WireSettings

__all__ = ["Liveness"]


class Liveness:
    """Hello timeout, keep-alive, write stall.

    Anything that arrives proves that the peer lives; a ping only makes it say something.
    """

    def __init__(self, settings: WireSettings, now: float) -> None:
        self._settings = settings
        self._hello_by: float | None = now + settings.hello_timeout_seconds
        self._heard_at = now
        self._asked_at: float | None = None
        self._blocked_at: float | None = None

    def greeted(self) -> None:
        """Note that Hello is through: keep-alive takes over."""
        self._hello_by = None

    def heard(self, now: float) -> None:
        """Note that something arrived."""
        self._heard_at = now
        self._asked_at = None

    def asked(self, now: float) -> None:
        """Note that a ping has been sent because of silence."""
        self._asked_at = now

    def blocked(self, now: float) -> None:
        """Note that the transport takes no more bytes."""
        if self._blocked_at is None:
            self._blocked_at = now

    def unblocked(self) -> None:
        """Note that the transport takes bytes again."""
        self._blocked_at = None

    @property
    def next_deadline(self) -> float:
        """When to look again."""
        quiet = self._silence_deadline() if self._hello_by is None else self._hello_by
        return min(quiet, self._stall_deadline())

    def verdict(self, now: float) -> Code | None:
        """Return why the connection has to be given up now, None while it hasn't."""
        if self._hello_by is not None:
            if now >= self._hello_by:
                return Code.HELLO_TIMEOUT
        elif self._asked_at is not None and now >= self._silence_deadline():
            return Code.KEEP_ALIVE
        if now >= self._stall_deadline():
            return Code.WRITE_STALLED
        return None

    def should_ask(self, now: float) -> bool:
        """Whether it has been silent for so long that a ping is due."""
        waiting = self._hello_by is not None or self._asked_at is not None
        return not waiting and now >= self._silence_deadline()

    def _stall_deadline(self) -> float:
        if self._blocked_at is None:
            return math.inf
        return self._blocked_at + self._settings.write_stall_seconds

    def _silence_deadline(self) -> float:
        if self._asked_at is not None:
            return self._asked_at + self._settings.keep_alive_timeout_seconds
        return self._heard_at + self._settings.keep_alive_seconds
