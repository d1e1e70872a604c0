"""What a peer with a valid key can do to the protocol itself, and from where."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node_agent.wire.codes import Code
from node_agent.wire.frames import Answer, Cancel, Credits, Data, Hello, Open, Ping, Window
from tests.support.frames import make
from tests.support.processes import wait_until
from tests.support.raw_peer import RawListener, RawPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node_agent.net import IdentityHolder
    from tests.support.node_process import Agent

__all__ = ["WIRE_ATTACKS", "Foothold", "stall"]


@dataclass(frozen=True, slots=True)
class Foothold:
    """A taken-over node's key, and its place before ``victim``, which grants it the peer role
    ``role`` and dials it, unless it ``dials``.
    """

    victim: Agent
    holder: IdentityHolder
    role: str
    dials: bool = False

    @property
    def serial(self) -> str:
        """The serial number of its certificate as the admin API writes it."""
        return f"{self.holder.current.chain[0].serial_number:x}"

    @property
    def role_path(self) -> str:
        """Where its role is at the victim."""
        return f"/v1/objects/peer_roles/{self.role}"

    @contextlib.contextmanager
    def link(self, **options: Any) -> Iterator[RawPeer]:
        """Yield a link with the victim that is through with Hello."""
        if self.dials:
            with RawPeer(self.holder, self.victim.listen["peer"], **options) as peer:
                yield peer
            return
        listener = RawListener(self.holder, **options)
        connector = {
            "name": f"raw-{self.role}",
            "address": listener.address,
            "peer": self.holder.node.uri,
            "max_connections": 1,
        }
        self.victim.admin.apply(peer_connectors=[connector])
        try:
            with listener as peer:
                yield peer
        finally:
            listener.close_port()
            self.victim.admin.delete(f"/v1/objects/peer_connectors/{connector['name']}")

    def audited(self, reason: str) -> list[dict[str, Any]]:
        """Return its links that were denied for ``reason``, in the whole log: the same breach by
        the same peer is written once a minute.
        """
        entries: list[dict[str, Any]] = self.victim.admin.get("/v1/audit?limit=10000")
        return [
            entry
            for entry in entries
            if entry["action"] == "peer.link"
            and entry["detail"]["peer"] == self.holder.node.uri
            and reason in entry["reason"]
        ]

    def wait_audited(self, reason: str) -> None:
        """Wait until such an entry is there."""
        wait_until(
            lambda: self.audited(reason), timeout_seconds=5, what=f"{reason!r} is in the audit log"
        )

    def is_linked(self) -> bool:
        """Whether the victim has a link with it."""
        peers = self.victim.admin.get("/v1/peers")
        return any(peer["peer"] == self.holder.node.uri and peer["state"] == "up" for peer in peers)


def stall(peer: RawPeer, number: int = 0) -> None:
    """Begin a request that has a day, and leave it."""
    peer.send(
        make(
            Open,
            stream=peer.own(number),
            deadline_ms=86_400_000,
            payload=b"",
            message_bytes=500,
            end=False,
        )
    )


def _flood_of(frame: Any) -> Callable[[RawPeer], None]:
    return lambda peer: peer.send(*([frame] * 25_000))


def _open(peer: RawPeer, number: int = 0, **fields: Any) -> Any:
    return make(Open, **{"stream": peer.own(number), "payload": b"", "end": False, **fields})


def _open_and_make_room(peer: RawPeer) -> None:
    peer.send(_open(peer, message_bytes=500), make(Window, stream=peer.own()))


def _overrun_credits(peer: RawPeer) -> None:
    for number in range(200):
        peer.send(_open(peer, number))


def _overrun_window(peer: RawPeer) -> None:
    peer.send(_open(peer, message_bytes=4_000_000))
    for _ in range(100):
        peer.send(make(Data, stream=peer.own(), payload=bytes(60_000)))


def _open_and_cancel(peer: RawPeer) -> None:
    for number in range(12_000):
        peer.send(_open(peer, number), make(Cancel, stream=peer.own(number)))


WIRE_ATTACKS: dict[str, tuple[Callable[[RawPeer], None], Code]] = {
    "a giant length": (lambda peer: peer.send_bytes(b"\xff" * 4), Code.FRAME_TOO_LARGE),
    "no length at all": (lambda peer: peer.send_bytes(bytes(4)), Code.PROTOCOL),
    "bytes that are no frame": (lambda peer: peer.send_bytes(b"\0\0\0\5hello"), Code.PROTOCOL),
    "a giant message": (
        lambda peer: peer.send(_open(peer, message_bytes=2**31 - 1)),
        Code.FRAME_TOO_LARGE,
    ),
    "more than the window": (_overrun_window, Code.FLOW_CONTROL),
    "more than the credits": (_overrun_credits, Code.CREDITS_EXCEEDED),
    "an answer to nothing": (
        lambda peer: peer.send(make(Answer, stream=peer.theirs(500))),
        Code.PROTOCOL,
    ),
    "data on no stream": (lambda peer: peer.send(make(Data, stream=peer.own(4))), Code.PROTOCOL),
    "another Hello": (lambda peer: peer.send(make(Hello)), Code.PROTOCOL),
    "a flood of pings": (_flood_of(make(Ping)), Code.TOO_MUCH),
    "a flood of credits": (_flood_of(make(Credits)), Code.TOO_MUCH),
    "room for an answer that isn't due": (_open_and_make_room, Code.PROTOCOL),
    "opening and cancelling": (_open_and_cancel, Code.TOO_MUCH),
    "a message that never ends": (stall, Code.MESSAGE_STALLED),
}
