"""The requests that a link serves: one task each, owned here, ended with the link at the latest."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import LinkClosed, LocalProtocolError
from node_agent.net.calls import NO_BODY, Body, CallHandler, IncomingCall, RawAnswer
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.net.link import Link
    from node_agent.wire.connection import Connection
    from node_agent.wire.events import BodyReceived, RequestReceived

__all__ = ["Serving"]

log = structlog.get_logger(__name__)


class _Job:
    """A request from its arrival to the end of its task."""

    __slots__ = ("call", "task", "timer")

    def __init__(self, call: IncomingCall, timer: asyncio.TimerHandle) -> None:
        self.call = call
        self.timer = timer
        self.task: asyncio.Task[None] | None = None


class Serving:
    """Incoming calls of one link.

    The core bounds the open streams by the credits granted. A cancelled request may still be
    cleaning up when its credit is used again, so tasks are bounded here a second time: what is
    above waits until one has really ended.
    """

    def __init__(
        self, link: Link, core: Connection, handler: CallHandler, flush: Callable[[], None]
    ) -> None:
        self._link = link
        self._core = core
        self._handler = handler
        self._flush = flush
        self._jobs: dict[int, _Job] = {}
        self._waiting: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that run now."""
        return frozenset(self._tasks)

    def start(self, event: RequestReceived, now: float) -> None:
        """Serve a request, or queue it behind those that are still ending."""
        loop = asyncio.get_running_loop()
        call = IncomingCall(
            self._link,
            event.stream,
            event.method,
            request_id=event.request_id,
            deadline=now + event.deadline_seconds,
            payload=event.message,
            body=self._body_of(event) if event.has_body else NO_BODY,
        )
        timer = loop.call_later(event.deadline_seconds, self._expire, event.stream)
        self._jobs[event.stream] = _Job(call, timer)
        if len(self._tasks) < max(1, self._core.granted_credits):
            self._run(event.stream)
        else:
            self._waiting.append(event.stream)

    def body_received(self, event: BodyReceived) -> None:
        """Pass on part of a body."""
        job = self._jobs.get(event.stream)
        if job is not None:
            job.call.body.put(event.data, end=event.end)

    def cancelled(self, stream: int) -> None:
        """Stop working on a request that nobody waits for."""
        job = self._jobs.pop(stream, None)
        if job is not None:
            self._stop(job, LinkClosed("the request was cancelled"))

    def close(self, reason: str) -> None:
        """Stop everything. ``tasks`` tells what is still ending."""
        error = LinkClosed(reason)
        jobs, self._jobs = self._jobs, {}
        self._waiting.clear()
        for job in jobs.values():
            self._stop(job, error)

    def _body_of(self, event: RequestReceived) -> Body:
        def consumed(size: int) -> None:
            self._core.consumed(event.stream, size)
            self._flush()

        return Body(consumed)

    def _run(self, stream: int) -> None:
        job = self._jobs[stream]
        task = asyncio.get_running_loop().create_task(self._serve(stream, job.call))
        job.task = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._waiting:
            stream = self._waiting.popleft()
            if stream in self._jobs:
                self._run(stream)
                return

    async def _serve(self, stream: int, call: IncomingCall) -> None:
        try:
            answer = await self._handler(call)
        except asyncio.CancelledError:
            # The peer cancelled, the deadline came, or the link ended: unless it was the handler
            # that cancelled itself, there is nobody left to tell.
            self._answer(stream, RawAnswer(Status.UNAVAILABLE))
            raise
        except Exception:
            log.exception("handler failed", method=call.method, peer=str(self._link.peer.node))
            answer = RawAnswer(Status.INTERNAL)
        self._answer(stream, answer)

    def _expire(self, stream: int) -> None:
        job = self._jobs.get(stream)
        if job is not None:
            self._answer(stream, RawAnswer(Status.DEADLINE))
            self._stop(job, LinkClosed("the deadline has passed"))

    def _stop(self, job: _Job, error: LinkClosed) -> None:
        job.timer.cancel()
        if job.call.body is not NO_BODY:
            job.call.body.fail(error)
        if job.task is not None:
            job.task.cancel()

    def _answer(self, stream: int, answer: RawAnswer) -> None:
        job = self._jobs.pop(stream, None)
        if job is None:
            return
        job.timer.cancel()
        try:
            self._core.send_answer(stream, answer.status, answer.payload)
        except LocalProtocolError as error:
            log.error("answer can't be sent", method=job.call.method, error=str(error))
            if self._core.has_stream(stream):
                self._core.send_answer(stream, Status.INTERNAL, b"")
        self._flush()
