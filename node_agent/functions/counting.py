"""Count what a node's CAs are asked for, around the handlers and without their knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.metrics import Metrics
    from node_agent.peers.context import Context
    from node_agent.peers.operations import Operation

__all__ = ["counted"]

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)


def counted(
    metrics: Metrics,
    operation: Operation[RequestT, AnswerT],
    handler: Callable[[Context, RequestT], Awaitable[AnswerT]],
) -> Callable[[Context, RequestT], Awaitable[AnswerT]]:
    """Return ``handler``, counted by CA and outcome.

    The CA is one of this node's own, or the dispatcher would not have called the handler.
    """

    async def handle(context: Context, request: RequestT) -> AnswerT:
        outcome = "failed"
        try:
            answer = await handler(context, request)
            outcome = "done"
        finally:
            name: str = getattr(request, "authority", "")
            metrics.requests.labels(operation.method, name, outcome).inc()
        return answer

    return handle
