"""What a handler is given beside the request: who asks, through whom, and that it was allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node_agent.identity import PeerIdentity
    from node_agent.policy import Decision, RoleSet
    from node_agent.store.records import AuditRecord

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One allowed request.

    ``origin`` signed it, ``via`` are the nodes it passed with the link peer last (empty when the
    origin is the link peer), ``requester`` is the name that the origin gives for who asked it.
    ``request_digest`` is over method, requester and payload: equal for a repeat of the same
    request, whenever it was signed. ``issued_at`` is the origin's wall clock, ``deadline`` our
    monotonic clock. ``audit_record`` is to be committed by handlers that change state.
    """

    operation: str
    decision: Decision
    origin: PeerIdentity
    via: tuple[PeerIdentity, ...]
    requester: str
    request_id: bytes
    request_digest: bytes
    issued_at: int
    deadline: float
    audit_record: AuditRecord
    roles: RoleSet
    body: AsyncIterator[bytes]

    @property
    def chain(self) -> tuple[PeerIdentity, ...]:
        """Everyone who needs the grant: origin first."""
        return (self.origin, *self.via)

    @property
    def peer(self) -> PeerIdentity:
        """The node at the other end of the link."""
        return self.via[-1] if self.via else self.origin

    def permits(self, *resources: str) -> bool:
        """Tell whether everyone in the chain is granted all of ``resources``, under the same roles
        that the decision was made with.
        """
        return all(
            self.roles.permits(subject, resource)
            for subject in self.chain
            for resource in resources
        )
