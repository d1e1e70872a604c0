"""What the admin API shows of a connector: plain values, taken at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from node_agent.pool.plan import SlotPhase

if TYPE_CHECKING:
    from node_agent.pool.pool import ConnectorPool

__all__ = ["ConnectorSnapshot", "ConnectorState", "take_snapshot"]

ConnectorState = Literal["up", "connecting", "down", "disabled"]
"""``down``: no link, and the last dial failed; ``connecting``: no link yet."""


class ConnectorSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One connector. ``active`` links carry requests now, ``idle`` ones don't; ``connections`` is
    their sum. ``serving`` are the peer's requests at work here, ``in_flight`` ours there,
    ``queued`` those that wait at either end. ``last_seen`` is in seconds since the epoch.
    """

    name: str
    peer: str
    address: str
    state: ConnectorState
    connections: int
    active: int
    idle: int
    dialing: int
    draining: int
    min: int
    max: int
    in_flight: int
    serving: int
    queued: int
    round_trip_ms: float | None
    failures: int
    last_error: str | None
    last_seen: float | None

    def __str__(self) -> str:
        return (
            f"{self.name} -> {self.peer} {self.state} connections={self.connections} "
            f"(active={self.active} idle={self.idle}) dialing={self.dialing} "
            f"draining={self.draining} in_flight={self.in_flight} serving={self.serving} "
            f"queued={self.queued}"
        )


def take_snapshot(pool: ConnectorPool, now: float) -> ConnectorSnapshot:
    """Return the figures of ``pool``; ``now`` is the wall clock."""
    links = pool.links
    active = sum(1 for link in links if link.in_flight or link.serving)
    trips = [link.round_trip_seconds for link in links if link.round_trip_seconds is not None]
    return ConnectorSnapshot(
        name=pool.name,
        peer=pool.dialing.peer.uri,
        address=str(pool.dialing.address),
        state=_state(pool),
        connections=len(links),
        active=active,
        idle=len(links) - active,
        dialing=len(pool.table.in_phase(SlotPhase.DIALING)),
        draining=len(pool.table.in_phase(SlotPhase.DRAINING)),
        min=pool.settings.min_connections,
        max=pool.settings.max_connections,
        in_flight=sum(link.in_flight for link in links),
        serving=sum(link.serving for link in links),
        queued=pool.queued,
        round_trip_ms=min(trips) * 1000 if trips else None,
        failures=pool.table.failures,
        last_error=pool.last_error,
        last_seen=now if links else pool.last_seen,
    )


def _state(pool: ConnectorPool) -> ConnectorState:
    if not pool.settings.enabled:
        return "disabled"
    if pool.links:
        return "up"
    return "down" if pool.table.failures else "connecting"
