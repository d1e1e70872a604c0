"""The calls that a link makes: each waits for its answer, its deadline, or the end of the link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node_agent.errors import CallTimeout, LinkClosed
from node_agent.net.calls import RawAnswer
from node_agent.wire.codes import Code, Status, code_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from node_agent.wire.connection import Connection

__all__ = ["Calling"]

_STATUSES = {status.value: status for status in Status}


class Calling:
    """Outgoing calls of one link. ``flush`` is called after everything that changes the core."""

    def __init__(self, core: Connection, flush: Callable[[], None]) -> None:
        self._core = core
        self._flush = flush
        self._answers: dict[int, asyncio.Future[RawAnswer]] = {}
        self._rooms: dict[int, asyncio.Future[None]] = {}
        self._writable: asyncio.Future[None] | None = None

    async def call(
        self,
        method: str,
        payload: bytes,
        *,
        request_id: bytes,
        timeout_seconds: float,
        body: AsyncIterable[bytes] | None,
    ) -> RawAnswer:
        """Send a request and wait. Leaving in any way frees the credit."""
        loop = asyncio.get_running_loop()
        stream = self._core.open_stream(
            method,
            payload,
            request_id=request_id,
            deadline_seconds=timeout_seconds,
            has_body=body is not None,
        )
        answer: asyncio.Future[RawAnswer] = loop.create_future()
        self._answers[stream] = answer
        timer = loop.call_later(timeout_seconds, self._expire, stream, timeout_seconds)
        self._flush()
        try:
            if body is None:
                return await answer
            return await self._call_with_body(stream, body, answer)
        finally:
            timer.cancel()
            self._answers.pop(stream, None)
            if self._core.has_stream(stream):
                self._core.cancel(stream, Code.CANCELLED)
                self._flush()

    def answered(self, stream: int, status: int, message: bytes) -> None:
        """Hand an answer to its caller."""
        waiter = self._answers.get(stream)
        if waiter is not None and not waiter.done():
            waiter.set_result(RawAnswer(_STATUSES.get(status, status), message))

    def cancelled(self, stream: int, code: int) -> None:
        """Tell a caller that the peer gave its stream up."""
        waiter = self._answers.get(stream)
        if waiter is not None and not waiter.done():
            waiter.set_exception(LinkClosed(f"the peer ended the request: {code_name(code)}"))

    def body_sent(self, stream: int) -> None:
        """Let the sender of a body go on."""
        _resolve(self._rooms.get(stream))

    def pause(self) -> None:
        """Hold bodies back: the transport is full."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """Let bodies go on."""
        _resolve(self._writable)
        self._writable = None

    def close(self, reason: str) -> None:
        """Fail every call that waits."""
        self.resume()
        for waiter in self._answers.values():
            if not waiter.done():
                waiter.set_exception(LinkClosed(reason))

    def _expire(self, stream: int, timeout_seconds: float) -> None:
        waiter = self._answers.get(stream)
        if waiter is not None and not waiter.done():
            waiter.set_exception(CallTimeout(f"no answer within {timeout_seconds:.3f} s"))

    async def _call_with_body(
        self, stream: int, body: AsyncIterable[bytes], answer: asyncio.Future[RawAnswer]
    ) -> RawAnswer:
        """Send the body while waiting; an answer that comes first ends the sending."""
        sending = asyncio.ensure_future(self._send_body(stream, body))
        try:
            await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                await sending  # raises what the body raised
            return await answer
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
            if not sending.cancelled():
                sending.exception()  # seen: the answer, or the error above, says what happened

    async def _send_body(self, stream: int, body: AsyncIterable[bytes]) -> None:
        async for chunk in body:
            if not await self._send_chunk(stream, chunk, end=False):
                return
        await self._send_chunk(stream, b"", end=True)

    async def _send_chunk(self, stream: int, chunk: bytes, *, end: bool) -> bool:
        """Send part of a body; False when nobody takes it any more."""
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if not self._core.has_stream(stream):
            return False  # answered, or the link has ended; the caller learns of it
        is_sent = self._core.send_body(stream, chunk, end=end)
        if not is_sent:
            room = self._rooms[stream] = asyncio.get_running_loop().create_future()
        self._flush()
        if not is_sent:
            try:
                await room
            finally:
                del self._rooms[stream]
        return True


def _resolve(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
