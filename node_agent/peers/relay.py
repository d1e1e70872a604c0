"""Passing signed requests on: what a proxy does.

The message goes on as it came, with the name of whom it came from added, and the answer goes back
as it came. Nothing is decoded, signed or remembered on the way; both ends check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.errors import AcquireTimeout, CallTimeout, LinkClosed, Unavailable
from node_agent.peers.envelope import add_via
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity
    from node_agent.net.calls import IncomingCall, RawAnswer
    from node_agent.peers.directory import Directory
    from node_agent.peers.envelope import VerifiedRequest

__all__ = ["Relay"]

_MAX_ATTEMPTS = 5


class Relay:
    """Send requests for an audience that isn't here to the peers that ``route`` names for it.

    ``route`` gets the audience (``ca/issuing``) and may raise Unavailable.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        route: Callable[[str], Sequence[NodeIdentity]],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._route = route
        self._clock = clock

    async def forward(self, request: VerifiedRequest, call: IncomingCall) -> RawAnswer:
        """Return the answer from upstream, signed by whom it was meant for.

        Raises Unavailable when there is no way, AcquireTimeout, CallTimeout, LinkClosed.
        """
        message = add_via(request, call.link.peer)
        passed = {request.origin.node, call.link.peer.node, *(via.node for via in request.via)}
        peers = [peer for peer in self._route(request.body.audience) if peer not in passed]
        if not peers:
            raise Unavailable("there is no way to it from here")
        answer = await self._send(peers, call, message)
        if not answer.payload:
            # Given by the next link itself, so nobody signed it; we answer in our own name.
            if answer.status == Status.DEADLINE:
                raise CallTimeout("no answer from upstream in time")
            raise Unavailable("upstream can't serve it now")
        return answer

    async def _send(
        self, peers: Sequence[NodeIdentity], call: IncomingCall, message: bytes
    ) -> RawAnswer:
        lost: LinkClosed | None = None
        for _ in range(_MAX_ATTEMPTS):
            left = call.deadline - self._clock.monotonic()
            if left <= 0:
                break
            with await self._directory.acquire(peers, timeout_seconds=left) as lease:
                try:
                    return await lease.call(
                        call.method, message, request_id=call.request_id, timeout_seconds=left
                    )
                except LinkClosed as error:
                    lost = error
        raise lost or AcquireTimeout("the deadline has passed")
