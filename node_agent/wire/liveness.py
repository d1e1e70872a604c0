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

    A ping goes out after ``keep_alive_seconds`` of silence, and as often while something of ours
    isn't known to have been read: on an idle link one end's ping spares the other one's. Two things
    can go wrong:

    - nothing at all is heard after it: the peer, or the path to it, is dead;
    - the peer talks, but nothing proves that it *reads*: no pong, answer or window comes back.
      Transports don't tell this reliably (a TLS transport hands everything to the one below it and
      stays silent about that one being full), so it is measured end to end. A slow reader that
      gets on is never cut off: each proof starts the wait anew.
    """

    def __init__(self, settings: WireSettings) -> None:
        self._settings = settings
        self._hello_by: float | None = None
        self._heard_at = 0.0
        self._read_at = 0.0
        self._is_unproven = False
        self._ask_at = math.inf
        self._asked_at: float | None = None
        self._blocked_at: float | None = None

    def start(self, now: float) -> None:
        """Begin to wait for Hello."""
        self._hello_by = now + self._settings.hello_timeout_seconds
        self._heard_at = self._read_at = now

    def greeted(self, now: float) -> None:
        """Note that Hello is through: keep-alive takes over."""
        self._hello_by = None
        self._ask_at = now + self._settings.keep_alive_seconds

    def heard(self, now: float) -> None:
        """Note that something arrived."""
        self._heard_at = now

    def wrote(self) -> None:
        """Note that we sent something that the peer should read."""
        self._is_unproven = True

    def was_read(self, now: float) -> None:
        """Note a proof that the peer reads what we send."""
        self._read_at = now
        self._is_unproven = False

    def asked(self, now: float) -> None:
        """Note that a ping has been sent."""
        self._asked_at = now

    def answered(self, now: float) -> None:
        """Note that the pong to it has come."""
        self._asked_at = None
        self._ask_at = now + self._settings.keep_alive_seconds

    def blocked(self, now: float) -> None:
        """Note that the transport takes no more bytes."""
        if self._blocked_at is None:
            self._blocked_at = now

    def unblocked(self) -> None:
        """Note that the transport takes bytes again."""
        self._blocked_at = None

    @property
    def next_deadline(self) -> float:
        """When to look again; infinite before the start."""
        if self._hello_by is not None:
            return min(self._hello_by, self._stall_deadline())
        if self._asked_at is None:
            return min(self._ask_at, self._stall_deadline())
        return min(self._silence_deadline(), self._stall_deadline())

    def verdict(self, now: float) -> Code | None:
        """Return why the connection has to be given up now, None while it hasn't."""
        if self._hello_by is not None and now >= self._hello_by:
            return Code.HELLO_TIMEOUT
        if now >= self._silence_deadline():
            return Code.KEEP_ALIVE
        if now >= self._stall_deadline():
            return Code.WRITE_STALLED
        return None

    def should_ask(self, now: float) -> bool:
        """Whether a ping is due; if it isn't needed yet, it is put off."""
        if self._asked_at is not None or now < self._ask_at:
            return False
        silent_at = self._heard_at + self._settings.keep_alive_seconds
        if now < silent_at and not self._is_unproven:
            self._ask_at = silent_at
            return False
        return True

    def _silence_deadline(self) -> float:
        if self._asked_at is None:
            return math.inf
        return max(self._asked_at, self._heard_at) + self._settings.keep_alive_timeout_seconds

    def _stall_deadline(self) -> float:
        waiting = [at for at in (self._asked_at, self._blocked_at) if at is not None]
        if not waiting:
            return math.inf
        return max(min(waiting), self._read_at) + self._settings.write_stall_seconds
