"""A call as the two ends of a link see it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from node_agent.errors import NodeAgentError
    from node_agent.net.link import Link
    from node_agent.wire.codes import Status

__all__ = ["Body", "CallHandler", "IncomingCall", "RawAnswer"]


class RawAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a call. ``status`` is a plain number when a newer peer sent an unknown one."""

    status: Status | int
    payload: bytes = b""


class IncomingCall:
    """A request that the peer sent. ``deadline`` is in the clock's monotonic seconds.

    ``body`` must be read, or left: what isn't read stays bounded by the stream's window.
    """

    __slots__ = ("body", "deadline", "link", "method", "payload", "request_id", "stream")

    def __init__(
        self,
        link: Link,
        stream: int,
        method: str,
        *,
        request_id: bytes,
        deadline: float,
        payload: bytes,
        body: Body,
    ) -> None:
        self.link = link
        self.stream = stream
        self.method = method
        self.request_id = request_id
        self.deadline = deadline
        self.payload = payload
        self.body = body


CallHandler = Callable[[IncomingCall], Awaitable[RawAnswer]]


class Body(AsyncIterator[bytes]):
    """The body of a request, chunk by chunk; each chunk that is taken makes room for more."""

    __slots__ = ("_chunks", "_error", "_has_ended", "_on_consumed", "_waiter")

    def __init__(self, on_consumed: Callable[[int], None] | None = None) -> None:
        self._on_consumed = on_consumed
        self._has_ended = on_consumed is None
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: NodeAgentError | None = None

    def put(self, chunk: bytes, *, end: bool) -> None:
        """Append what arrived."""
        if chunk:
            self._chunks.append(chunk)
        self._has_ended = end
        self._wake()

    def fail(self, error: NodeAgentError) -> None:
        """Let the reader learn that the rest won't come."""
        self._error = error
        self._wake()

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._has_ended:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        if self._on_consumed is not None:
            self._on_consumed(len(chunk))
        return chunk

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


NO_BODY = Body()
"""What a call without a body has: it ends at once, and holds nothing."""
