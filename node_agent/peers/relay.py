"""Passing signed requests on: what a proxy does.

The message goes on as it came, with the name of whom it came from added, and the answer goes back
as it came. Nothing is decoded, signed or remembered on the way; both ends check it. Only what looks
like a refusal is read: one that isn't the audience's own must not keep us from asking others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import (
    AcquireTimeout,
    CallTimeout,
    HandshakeError,
    LinkClosed,
    Unavailable,
)
from node_agent.peers.envelope import add_via, read_answer
from node_agent.peers.relays import may_answer
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity
    from node_agent.net.calls import IncomingCall, RawAnswer
    from node_agent.peers.directory import Directory, Lease
    from node_agent.peers.envelope import VerifiedRequest
    from node_agent.peers.signature import PeerCertificates
    from node_agent.policy import RoleSet

__all__ = ["Relay"]

log = structlog.get_logger(__name__)

_MAX_ATTEMPTS = 5
# A CA that lost its last link dials again at once. Longer than that, and the origin does better
# with another proxy, or with an answer that says when to come back.
_REDIAL_SECONDS: Final = 1.0
_AVOID_SECONDS: Final = 2.0
_RETRY_AFTER_SECONDS: Final = 5
# What a node on the way may say in its own name.
_REFUSALS: Final = frozenset(
    {Status.DENIED, Status.INVALID, Status.UNAVAILABLE, Status.DEADLINE, Status.INTERNAL}
)


class Relay:
    """Send requests for an audience that isn't here to the peers that ``route`` names for it.

    ``route`` gets the audience (``ca/issuing``, or a node's URI) and may raise Unavailable.
    ``roles`` returns the roles in force.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        route: Callable[[str], Sequence[NodeIdentity]],
        certificates: PeerCertificates,
        roles: Callable[[], RoleSet],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._certificates = certificates
        self._roles = roles
        self._route = route
        self._clock = clock

    async def forward(self, request: VerifiedRequest, call: IncomingCall) -> RawAnswer:
        """Return the answer from upstream, signed by whom it was meant for.

        Raises Unavailable when there is no way, AcquireTimeout, CallTimeout, LinkClosed.
        """
        message = add_via(request, call.link.peer)
        passed = {request.origin.node, call.link.peer.node, *(via.node for via in request.via)}
        peers = [peer for peer in self._way_to(request.body.audience) if peer not in passed]
        if not peers:
            raise Unavailable("there is no way to it from here", retry_after_seconds=30)
        answer = await self._send(peers, call, request, message)
        if not answer.payload:
            # Given by the next link itself, so nobody signed it; we answer in our own name.
            if answer.status == Status.DEADLINE:
                raise CallTimeout("no answer from upstream in time")
            raise Unavailable("upstream can't serve it now")
        return answer

    def _way_to(self, audience: str) -> Sequence[NodeIdentity]:
        """Ask ``route``, and keep to ourselves what our roles lack."""
        try:
            return self._route(audience)
        except Unavailable as error:
            log.info("no way upstream", audience=audience, reason=str(error))
            return ()

    async def _send(
        self,
        peers: Sequence[NodeIdentity],
        call: IncomingCall,
        request: VerifiedRequest,
        message: bytes,
    ) -> RawAnswer:
        """Return the first answer that is the audience's, or the last one that isn't."""
        able = list(peers)
        lost: LinkClosed | None = None
        answer: RawAnswer | None = None
        for _ in range(_MAX_ATTEMPTS):
            left = call.deadline - self._clock.monotonic()
            if left <= 0 or not able:
                break
            if answer is not None and not any(map(self._directory.is_connected, able)):
                break
            with await self._acquire(able, left, call.link.peer.node) as lease:
                peer = lease.link.peer.node
                try:
                    answer = await lease.call(
                        call.method, message, request_id=call.request_id, timeout_seconds=left
                    )
                except LinkClosed as error:
                    lost = error
                    continue
            if self._is_final(answer, request):
                return answer
            able.remove(peer)
            self._directory.avoid(peer, _AVOID_SECONDS)
        if answer is not None:
            return answer
        raise lost or AcquireTimeout("the deadline has passed")

    def _is_final(self, answer: RawAnswer, request: VerifiedRequest) -> bool:
        """Tell whether others needn't be asked. A success is the origin's to check: it is the most
        of what passes, and checking it here would cost as much as all the rest.
        """
        if answer.status not in _REFUSALS:
            return True
        if answer.status == Status.UNAVAILABLE or not answer.payload:
            return False
        try:
            read = read_answer(
                answer.payload,
                certificates=self._certificates,
                body_digest=request.body_digest,
                status=answer.status,
            )
        except HandshakeError:
            return False
        return may_answer(self._roles(), read.signer, request.body.audience)

    async def _acquire(
        self, peers: Sequence[NodeIdentity], left: float, asker: NodeIdentity
    ) -> Lease:
        is_linked = any(map(self._directory.is_connected, peers))
        patience = left if is_linked else min(left, _REDIAL_SECONDS)
        try:
            return await self._directory.acquire(peers, timeout_seconds=patience, asker=asker)
        except AcquireTimeout as error:
            if is_linked:
                raise
            raise Unavailable(
                "nothing upstream is connected here", retry_after_seconds=_RETRY_AFTER_SECONDS
            ) from error
