"""One call on its way through the dispatcher, and what it leaves in the audit log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from node_agent.errors import Unavailable
from node_agent.peers.answers import problem_of
from node_agent.peers.context import Context
from node_agent.peers.envelope import body_digest_of
from node_agent.peers.operations import OPERATIONS
from node_agent.policy import describe_chain
from node_agent.store.records import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.identity import PeerIdentity
    from node_agent.net.calls import IncomingCall
    from node_agent.peers.envelope import VerifiedRequest
    from node_agent.peers.turns import Turn
    from node_agent.policy import Decision, RoleSet

__all__ = ["AuditTrail", "Case"]

_UNKNOWN = "unknown"
_MAX_METHOD_CHARACTERS = 64


@dataclass(slots=True)
class Case:
    """What is known of a call so far; a denial at any point is audited from it.

    Until the envelope has been verified, only the link says who asks. ``at`` is the wall clock,
    ``home`` this node's trust domain. What ``is_permitted`` is denied by its handler, if at all.
    """

    call: IncomingCall
    roles: RoleSet
    turn: Turn
    at: float
    home: str = ""
    request: VerifiedRequest | None = None
    resources: tuple[str, ...] = ()
    is_permitted: bool = False

    @property
    def peer(self) -> PeerIdentity:
        """The node at the other end of the link."""
        return self.call.link.peer

    @property
    def method(self) -> str:
        """The method as it may stand in the audit log."""
        return self.call.method if self.call.method in OPERATIONS else _UNKNOWN

    @property
    def chain(self) -> tuple[PeerIdentity, ...]:
        """Origin, the nodes that it passed, and the link's peer, unless that is the origin."""
        request = self.request
        if request is None:
            return (self.peer,)
        if self.peer.node == request.origin.node and not request.via:
            return (request.origin,)
        return (request.origin, *request.via, self.peer)

    @property
    def body_digest(self) -> bytes:
        """What the answer has to refer to."""
        return (
            body_digest_of(self.call.payload) if self.request is None else self.request.body_digest
        )

    def record(self, *, allowed: bool, reason: str, **detail: str) -> AuditRecord:
        """Return the audit record; empty details are left out."""
        chain = self.chain
        requester = "" if self.request is None else self.request.body.requester
        known = {
            "origin": chain[0].node.uri,
            "peer": self.peer.node.uri,
            "request_id": self.call.request_id.hex(),
            **{name: text for name, text in detail.items() if text},
        }
        if self.method == _UNKNOWN:
            known["method"] = self.call.method[:_MAX_METHOD_CHARACTERS]
        return AuditRecord(
            at=self.at,
            action=self.method,
            allowed=allowed,
            chain=describe_chain(chain, requester=requester, home=self.home),
            resources=self.resources,
            reason=reason,
            detail=known,
        )

    def context(self, decision: Decision) -> Context:
        """Return what the handler is given, once everything is decided."""
        request = self.request
        assert request is not None
        return Context(
            operation=request.body.method,
            decision=decision,
            origin=request.origin,
            via=self.chain[1:],
            requester=request.body.requester,
            request_id=request.body.request_id,
            request_digest=request.content_digest,
            issued_at=request.body.issued_at,
            deadline=self.call.deadline,
            audit_record=self.record(allowed=True, reason=decision.reason),
            roles=self.roles,
            body=self.call.body,
        )


class AuditTrail:
    """Commit audit records. Cancelling a request doesn't cancel what it leaves behind.

    ``commit`` returns once the record is stored, and raises when it could not be.
    """

    def __init__(self, commit: Callable[[AuditRecord], Awaitable[None]]) -> None:
        self._commit = commit
        self.pending: set[asyncio.Future[None]] = set()

    async def add(self, record: AuditRecord) -> None:
        """Commit ``record``."""
        commit = asyncio.ensure_future(self._commit(record))
        self.pending.add(commit)
        commit.add_done_callback(self.pending.discard)
        await asyncio.shield(commit)

    async def add_outcome(self, record: AuditRecord, outcome: str, why: str = "") -> None:
        """Commit an allowed request's record with what became of it."""
        detail = {**record.detail, "outcome": outcome, **({"why": why} if why else {})}
        await self.add(replace(record, detail=detail))

    async def add_failure(self, record: AuditRecord, error: Exception) -> None:
        """Commit the record of a request that was allowed, but not done."""
        status, problem = problem_of(error)
        why = str(error) if isinstance(error, Unavailable) else problem.detail
        await self.add_outcome(record, problem.code or status.name.lower(), why)
