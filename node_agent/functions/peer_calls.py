"""What the functions need of the links: to ask a peer. The seam that their tests replace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

    from node_agent.identity import NodeIdentity
    from node_agent.peers.operations import Operation

__all__ = ["PeerCalls"]

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)


class PeerCalls(Protocol):
    """Ask one of several peers."""

    async def call(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        *,
        peers: Sequence[NodeIdentity],
        timeout_seconds: float,
        request_id: bytes | None = None,
        requester: str = "",
        body: Callable[[], AsyncIterable[bytes]] | None = None,
    ) -> AnswerT:
        """Return the answer of whichever of ``peers`` is best placed to give it.

        Raises what ``peers.caller.PeerCaller.call`` raises.
        """
        ...
