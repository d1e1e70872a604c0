"""What the two ends of a connection say that isn't about one stream: pings, credits, demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.errors import LocalProtocolError
from node_agent.wire import events, frames
from node_agent.wire.liveness import Liveness
from node_agent.wire.window import CreditGrant, FloodGuard

if TYPE_CHECKING:
    from node_agent.wire.codes import Code
    from node_agent.wire.outgoing import Outgoing
    from node_agent.wire.settings import WireSettings

__all__ = ["CANCEL_COST", "Control"]

# A peer in good health sends a handful of control frames a second. A cancellation may have cost
# us a task and a query, so it weighs more: 1,000 a second for ever, 5,000 at once. It can't weigh
# much more, because a proxy passes on the cancellations of all its tenants over one link, and one
# of them must not be able to end it.
_CONTROL_FRAMES_PER_SECOND: Final = 2000.0
_CONTROL_FRAMES_AT_ONCE: Final = 10_000.0
CANCEL_COST: Final = 2.0
# Pings of ours that may be unanswered at a time; more would only measure our own queue.
_MAX_PINGS: Final = 100


class Control:
    """Pings, grants and announcements of one connection, and its liveness."""

    def __init__(
        self, settings: WireSettings, outgoing: Outgoing, happened: list[events.Event]
    ) -> None:
        self._send = outgoing.send
        self._happened = happened
        self._guard = FloodGuard(
            per_second=_CONTROL_FRAMES_PER_SECOND, burst=_CONTROL_FRAMES_AT_ONCE
        )
        self._pings: dict[bytes, float] = {}
        self._keep_alive_token = b""
        self._next_token = 1
        self._announced_demand = 0
        self.liveness = Liveness(settings)
        self.granted = CreditGrant(settings.credits)
        self.peer_queued = 0

    def charge(self, cost: float, now: float) -> None:
        """Count a frame that cost its sender nothing. Raises RemoteProtocolError."""
        self._guard.add(cost, now)

    def set_credits(self, parallel_requests: int) -> None:
        """Grant the peer so many parallel requests."""
        if parallel_requests == self.granted.current:
            return
        token = self._take_token()
        needs_fence = self.granted.grant(parallel_requests, token)
        self._send(frames.Credits(parallel_requests))
        if needs_fence:
            self._send(frames.Ping(token))

    def announce_queue(self, queued: int) -> None:
        """Tell the peer how many requests wait for its credits, once per change."""
        if queued != self._announced_demand:
            self._announced_demand = queued
            self._send(frames.Demand(queued))

    def ping(self, now: float) -> bytes:
        """Send a ping for the caller; return its token. Raises LocalProtocolError."""
        if len(self._pings) >= _MAX_PINGS:
            raise LocalProtocolError("too many unanswered pings")
        return self._send_ping(now)

    def tick(self, now: float) -> Code | None:
        """Send a keep-alive ping if one is due; return why to give up, if so."""
        verdict = self.liveness.verdict(now)
        if verdict is None and self.liveness.should_ask(now):
            self.liveness.asked(now)
            self._keep_alive_token = self._send_ping(now)
        return verdict

    def on_demand(self, frame: frames.Demand, now: float) -> None:
        """Note how many requests wait at the peer."""
        self.charge(1, now)
        self.peer_queued = frame.queued
        self._happened.append(events.DemandReceived(frame.queued))

    def on_ping(self, frame: frames.Ping, now: float) -> None:
        """Answer at once."""
        self.charge(1, now)
        self._send(frames.Pong(frame.token))

    def on_pong(self, frame: frames.Pong, now: float) -> None:
        """Take the pong to a ping, a keep-alive, or the fence behind a lower grant."""
        self.charge(1, now)
        self.granted.acknowledged(frame.token)
        sent_at = self._pings.pop(frame.token, None)
        if sent_at is None:
            return
        self.liveness.was_read(now)
        if frame.token == self._keep_alive_token:
            self.liveness.answered(now)
        self._happened.append(events.PongReceived(frame.token, now - sent_at))

    def _send_ping(self, now: float) -> bytes:
        token = self._take_token()
        self._pings[token] = now
        self._send(frames.Ping(token))
        return token

    def _take_token(self) -> bytes:
        token = self._next_token.to_bytes(8, "big")
        self._next_token += 1
        return token
