"""What ``peersys status`` and the admin API show of peers: plain values, taken at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.identity import NodeIdentity
    from node_agent.net.link import Link

__all__ = ["PeerSnapshot", "round_trip_ms", "summarize"]


class PeerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that dialled us. ``state`` is ``up`` or ``down``; ``last_seen`` seconds since epoch.

    ``in_flight`` are our requests that it hasn't answered, ``serving`` its requests that we
    haven't, ``queued`` how many more wait at its end.
    """

    peer: str
    state: str
    connections: int
    in_flight: int
    serving: int
    queued: int
    round_trip_ms: float | None
    last_seen: float | None


def summarize(
    peer: NodeIdentity, links: Sequence[Link], *, last_seen: float | None
) -> PeerSnapshot:
    """Return the figures of a peer's links together."""
    return PeerSnapshot(
        peer=peer.uri,
        state="up" if links else "down",
        connections=len(links),
        in_flight=sum(link.in_flight for link in links),
        serving=sum(link.serving for link in links),
        # Every link of a peer says the same number.
        queued=max((link.peer_queued for link in links), default=0),
        round_trip_ms=round_trip_ms(links),
        last_seen=last_seen,
    )


def round_trip_ms(links: Sequence[Link]) -> float | None:
    """Return the best round-trip time of ``links`` in milliseconds, None when none was measured."""
    measured = [link.round_trip_seconds for link in links if link.round_trip_seconds is not None]
    return min(measured) * 1000 if measured else None
