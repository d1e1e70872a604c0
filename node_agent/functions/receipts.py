"""Receipts: what makes a peer's word count that it knows more of our change log than we do.

A peer that has applied more than our log holds proves that our store is an old copy, and everything
that signs stops. A taken-over VA could say so any time. So each batch carries a receipt for the
position that it leads to, which only who holds the log's secret can make; the receiver keeps it
with the position and shows it. The secret is in the store, next to the log: an old copy of the
store knows its own receipts, also those that it doesn't remember, whatever became of the node's
keys since.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from node_agent.errors import NodeAgentError
from node_agent.peers.repeats import Repeats
from node_agent.policy import describe_chain
from node_agent.store.records import AuditRecord

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.identity import PeerIdentity
    from node_agent.store.api import Writer

__all__ = ["Receipts", "receipt_for"]

_LABEL = b"peersys/1 receipt\x00"


def receipt_for(secret: bytes, source: str, position: int) -> bytes:
    """Return the proof that the log ``source`` was sent up to ``position``."""
    text = position.to_bytes(8, "big") + source.encode()
    return hmac.new(secret, _LABEL + text, hashlib.sha256).digest()


class Receipts:
    """Those of one publisher."""

    def __init__(self, store: Writer, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._repeats = Repeats(clock)
        self._secret: bytes | None = None

    async def make(self, source: str, position: int) -> bytes:
        """Return the receipt that goes with a batch."""
        return receipt_for(await self._known_secret(), source, position)

    async def check(self, peer: PeerIdentity, source: str, position: int, receipt: bytes) -> None:
        """Raise NodeAgentError for a position above ours that isn't proven, and audit it."""
        if hmac.compare_digest(await self.make(source, position), receipt):
            return
        reason = f"claims to have applied {position} entries of this log and proves it with nothing"
        times = self._repeats.unwritten(peer.node, "unproven")
        if times is not None:
            await self._store.append_audit([self._record(peer, reason, times)])
        raise NodeAgentError(f"{peer.node} {reason}: it lost its store, or was taken over")

    def _record(self, peer: PeerIdentity, reason: str, unwritten: int) -> AuditRecord:
        detail = {"origin": peer.node.uri, "peer": peer.node.uri}
        if unwritten:
            detail["unwritten_before"] = str(unwritten)
        return AuditRecord(
            at=self._clock.now(),
            action="publish.position",
            allowed=False,
            chain=describe_chain((peer,)),
            resources=(),
            reason=reason,
            detail=detail,
        )

    async def _known_secret(self) -> bytes:
        if self._secret is None:
            self._secret = (await self._store.heads()).log_secret
        return self._secret
