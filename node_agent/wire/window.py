"""Flow control: pure bookkeeping, nothing here sends anything.

Bytes. Each direction of a stream has a window: how much may be on its way or unread. A receiver
gives back what was taken out, but not in crumbs:

1. ``received`` takes bytes out of the window; more than it holds is the sender's fault.
2. ``consumed`` says how many bytes the application has taken. It returns how much to give back
   now: nothing until half of the window is due, then all of it at once, so that a body costs one
   WINDOW frame per half window and the sender never stands still for want of one.

Messages. A message larger than the window needs the receiver to hold all of it before anything
can consume it. ``MessageBudget`` decides who may: a reservation is for a whole message or not at
all, and waits in line, so that no set of half-received messages can block each other for ever.
"""

from __future__ import annotations

from collections import OrderedDict

from node_agent.errors import RemoteProtocolError
from node_agent.wire.codes import Code

__all__ = ["CreditGrant", "FloodGuard", "MessageBudget", "ReceiveWindow", "SendWindow"]

# The largest window that either side may build up: the same bound as RFC 9113, 6.9.1.
MAX_WINDOW_BYTES = 2**31 - 1


class SendWindow:
    """How many bytes we may still send."""

    __slots__ = ("available",)

    def __init__(self, size: int) -> None:
        self.available = size

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` bytes out and return how many there were."""
        taken = min(wanted, self.available)
        self.available -= taken
        return taken

    def extend(self, size: int) -> None:
        """Add what the peer gave. Raises RemoteProtocolError beyond 2**31 - 1."""
        if self.available + size > MAX_WINDOW_BYTES:
            raise RemoteProtocolError("the window grew too large", code=Code.FLOW_CONTROL)
        self.available += size


class ReceiveWindow:
    """How many bytes the peer may still send, and when to give some back."""

    __slots__ = ("available", "due", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.available = size
        self.due = 0

    def received(self, size: int) -> None:
        """Take ``size`` received bytes out. Raises RemoteProtocolError if there aren't as many."""
        if size > self.available:
            raise RemoteProtocolError(
                f"{size} bytes where the window holds {self.available}", code=Code.FLOW_CONTROL
            )
        self.available -= size

    def consumed(self, size: int) -> int:
        """Note ``size`` consumed bytes; return how many to give back to the peer now."""
        self.due += size
        if self.due * 2 < self.size:
            return 0
        given, self.due = self.due, 0
        self.available += given
        return given


class MessageBudget:
    """Bytes that large messages of one direction may hold on one connection, first come first
    served. A single message may exceed the budget when it is alone, so that none waits for ever.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._held: dict[int, int] = {}
        self._waiting: OrderedDict[int, int] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many messages wait for a reservation."""
        return len(self._waiting)

    def reserve(self, stream: int, size: int) -> bool:
        """Reserve ``size`` bytes for ``stream``; False puts it in line."""
        if not self._waiting and self._fits(size):
            self._hold(stream, size)
            return True
        self._waiting[stream] = size
        return False

    def release(self, stream: int) -> list[int]:
        """Give back what ``stream`` holds or waits for; return the streams that are served now."""
        self._waiting.pop(stream, None)
        self._free += self._held.pop(stream, 0)
        served: list[int] = []
        while self._waiting:
            first, size = next(iter(self._waiting.items()))
            if not self._fits(size):
                break
            del self._waiting[first]
            self._hold(first, size)
            served.append(first)
        return served

    def _fits(self, size: int) -> bool:
        return size <= self._free or not self._held

    def _hold(self, stream: int, size: int) -> None:
        self._free -= size
        self._held[stream] = size


class CreditGrant:
    """How many parallel requests the peer may have open at us, while grants are on their way.

    A higher grant counts at once. A lower one can't: the peer may have used the old one before it
    read the new one. So a lower grant is followed by a ping, and the old one stays allowed until
    the pong proves that the new one has been read.
    """

    __slots__ = ("_grants", "allowed", "current")

    def __init__(self, parallel_requests: int) -> None:
        self.current = parallel_requests
        self.allowed = parallel_requests
        self._grants: list[tuple[bytes | None, int]] = [(None, parallel_requests)]

    def grant(self, parallel_requests: int, fence: bytes) -> bool:
        """Note a new grant; True asks the caller to send a ping with the token ``fence``."""
        self.current = parallel_requests
        if parallel_requests >= self.allowed:
            self._grants = [(None, parallel_requests)]
        else:
            self._grants.append((fence, parallel_requests))
        self.allowed = max(limit for _, limit in self._grants)
        return parallel_requests < self.allowed

    def acknowledged(self, token: bytes) -> None:
        """Forget the grants before the one that was fenced with ``token``."""
        for index, (fence, _) in enumerate(self._grants):
            if fence == token:
                del self._grants[:index]
                self.allowed = max(limit for _, limit in self._grants)
                return


class FloodGuard:
    """A leaky bucket for frames that cost their sender nothing and us something.

    Cancelled requests are the expensive kind (CVE-2023-44487, "rapid reset"), pings, empty data
    and repeated announcements the cheap kind (CVE-2019-9512, CVE-2019-9518).
    """

    __slots__ = ("_burst", "_level", "_per_second", "_updated")

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._level = 0.0
        self._updated = 0.0

    def add(self, cost: float, now: float) -> None:
        """Count a frame. Raises RemoteProtocolError when the peer sends too many of them."""
        leaked = (now - self._updated) * self._per_second
        self._level = max(0.0, self._level - leaked) + cost
        self._updated = now
        if self._level > self._burst:
            raise RemoteProtocolError("too many control frames", code=Code.TOO_MUCH)
