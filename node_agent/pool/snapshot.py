"""What the admin API shows of a connector: plain values, taken at one moment."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["ConnectorSnapshot", "ConnectorState"]

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
