"""Signing without stalling the event loop.

A P-256 signature by a soft token takes 0.04 ms and is made inline. RSA and ML-DSA take 1 to 7 ms,
RSA key generation up to seconds: they go to worker processes, so that no link misses its
keep-alive. Keys travel as their token records them; a worker learns once, through its pipe, what
opens a token. A worker that dies is replaced, and its task done again by another: signing has no
side effect that could happen twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

import node_agent
from node_agent.errors import ConfigError, TokenClosed, TokenError, TokenLost, Unavailable
from node_agent.pki.signing_tasks import (
    MAX_FRAME_BYTES,
    Answer,
    DiscardTask,
    Fault,
    GenerateTask,
    SignTask,
    Task,
    decode_answer,
    encode_frame,
)
from node_agent.pki.token import TokenKey

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from node_agent.pki.keys import SigningKey
    from node_agent.pki.token import CryptoToken, TokenAccess
    from node_agent.store.records import KeyRecord

__all__ = ["SigningPool"]

_log = structlog.get_logger(__name__)
_ATTEMPTS = 3
_STOP_SECONDS = 2.0
_DISCARD_SECONDS = 10.0


@dataclass(slots=True)
class _Worker:
    """A worker process and the tokens, by reference, that it has opened."""

    process: asyncio.subprocess.Process
    opened: dict[str, TokenAccess] = field(default_factory=dict)

    async def ask(self, task: Task) -> Answer:
        """Send a task and return its answer. Raises OSError or EOFError when the worker is gone."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        if stdin.is_closing():
            # uvloop noticed while the worker was idle, and would raise RuntimeError.
            raise EOFError("the worker is gone")
        stdin.write(encode_frame(task))
        await stdin.drain()
        prefix = await stdout.readexactly(4)
        size = int.from_bytes(prefix, "big")
        if size > MAX_FRAME_BYTES:
            raise EOFError("the worker's answer makes no sense")
        return decode_answer(await stdout.readexactly(size))

    async def stop(self) -> None:
        """End the process and collect it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class _Lane:
    """The workers that serve the same tokens."""

    def __init__(self, workers: int) -> None:
        self.idle: list[_Worker] = []
        self.free = asyncio.Semaphore(workers)
        self.is_open = True

    def end(self) -> list[_Worker]:
        """Keep no worker from now on; return those that are idle."""
        self.is_open = False
        idle, self.idle = self.idle, []
        return idle


class SigningPool:
    """Worker processes for slow signatures; ``async with`` starts and stops it.

    Workers start when they are first needed, at most ``workers`` of them in each lane. Tasks beyond
    wait their turn within their own deadline.
    """

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} signing workers are impossible", remedy="use 1 or more")
        self._workers = workers
        self._lanes: dict[str, _Lane] = {}
        self._closed = False

    async def __aenter__(self) -> SigningPool:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every worker; waiting tasks fail with Unavailable."""
        self._closed = True
        idle = [worker for lane in self._lanes.values() for worker in lane.end()]
        await asyncio.gather(*(worker.stop() for worker in idle))

    def signs_here(self, key: SigningKey) -> bool:
        """Tell whether ``key`` is used in this process, and quick enough for the event loop: a
        caller that has no time for a task may call its ``sign`` then.
        """
        return not isinstance(key, TokenKey) or key.token.works_here(key.kind)

    async def sign(
        self, key: SigningKey, data: bytes, *, is_digest: bool = False, timeout_seconds: float = 30
    ) -> bytes:
        """Return the signature of ``data``, or of the message that it is the digest of.

        Raises TokenError when the key can't be opened, Unavailable when no worker finished in time.
        """
        if self.signs_here(key):
            return key.sign_digest(data) if is_digest else key.sign(data)
        assert isinstance(key, TokenKey)
        access = key.token.access
        task = SignTask(
            token=access.reference,
            kind=key.kind,
            private_part=key.record.private_part,
            public_der=key.spki,
            data=data,
            is_digest=is_digest,
            keep=key.token.activation == "automatic",
        )
        (signature,) = await self._perform(access, task, timeout_seconds)
        return signature

    async def generate(
        self,
        token: CryptoToken,
        label: str,
        kind: str,
        *,
        created_at: int,
        timeout_seconds: float = 60,
    ) -> KeyRecord:
        """Make a key, add it to ``token`` and return what has to be stored.

        Raises Conflict when the label exists, TokenError, Unavailable.
        """
        if token.works_here(kind):
            return token.generate(label, kind, created_at=created_at)
        token.check_is_free(label)
        sibling = token.any_record
        task = GenerateTask(
            token=token.access.reference,
            kind=kind,
            label=label,
            sibling=b"" if sibling is None else sibling.private_part,
        )
        private_part, spki = await self._perform(token.access, task, timeout_seconds)
        return token.add_made(
            label, kind, private_part=private_part, public_der=spki, created_at=created_at
        )

    async def discard(self, token: CryptoToken, record: KeyRecord) -> None:
        """Forget a key that was made for something which then failed, and have a token that keeps
        its keys itself remove it. A token that can't now is left with a key that nothing uses.
        """
        token.remove(record.label)
        if token.works_here(record.key_kind):
            return
        task = DiscardTask(token.access.reference, record.private_part)
        try:
            await self._perform(token.access, task, _DISCARD_SECONDS)
        except (TokenError, Unavailable) as error:
            _log.warning(
                "unused key left in crypto token",
                token=token.name,
                key=record.private_part.hex()[:64],
                reason=str(error),
            )

    async def open(self, access: TokenAccess, *, timeout_seconds: float = 30) -> None:
        """Have a worker open the token now. Raises TokenError, Unavailable."""
        await self._perform(access, None, timeout_seconds)

    async def retire(self, live: Iterable[TokenAccess]) -> None:
        """Stop the workers of every lane that no token uses any more: they log out."""
        wanted = {access.lane for access in live}
        ended = [self._lanes.pop(name) for name in list(self._lanes) if name not in wanted]
        idle = [worker for lane in ended for worker in lane.end()]
        await asyncio.gather(*(worker.stop() for worker in idle))

    async def _perform(
        self, access: TokenAccess, task: Task | None, timeout_seconds: float
    ) -> tuple[bytes, ...]:
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self._answer(access, task)
        except TimeoutError as error:
            late = f"{access.title} did not answer in time"
            access.lost(TokenError(late))
            raise Unavailable(late) from error
        if answer.failure:
            raise _error_of(answer)
        return answer.parts

    async def _answer(self, access: TokenAccess, task: Task | None) -> Answer:
        """Return a worker's answer. One that dies, or loses its token, is replaced."""
        lane = self._lanes.setdefault(access.lane, _Lane(self._workers))
        answer: Answer | None = None
        for _ in range(_ATTEMPTS):
            async with lane.free:
                if self._closed:
                    break
                access.check(has_worker=bool(lane.idle))
                try:
                    worker = lane.idle.pop() if lane.idle else await _start_worker()
                except OSError as error:
                    raise Unavailable(f"no signing worker starts: {error.strerror}") from error
                answer = await self._attempt(lane, worker, access, task)
                if answer is not None and answer.fault != "lost":
                    return answer
        if answer is not None:
            return answer
        raise Unavailable("the signing workers don't stay up")

    async def _attempt(
        self, lane: _Lane, worker: _Worker, access: TokenAccess, task: Task | None
    ) -> Answer | None:
        """Return the worker's answer, or None when it died over it."""
        try:
            answer = await _ask_opened(worker, access, task)
        except (OSError, EOFError):
            _log.warning("signing_worker_died", pid=worker.process.pid)
            await asyncio.shield(worker.stop())
            return None
        except BaseException:
            # Cancelled with an answer on its way: that worker can't be told apart from one that
            # answers the next task with this one's signature.
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await asyncio.shield(worker.stop())
            raise
        if answer.fault == "lost":
            access.lost(_error_of(answer))
        is_opened = access.reference in worker.opened
        if lane.is_open and access.keeps_workers and is_opened and answer.fault != "lost":
            lane.idle.append(worker)
        else:
            await worker.stop()
        return answer


async def _ask_opened(worker: _Worker, access: TokenAccess, task: Task | None) -> Answer:
    if worker.opened.get(access.reference) is not access:
        async with access.opening:
            opening = access.open_task()
            try:
                answer = await worker.ask(opening)
            except (OSError, EOFError):
                access.failed(TokenError(f"{access.title}: a worker died over opening it"))
                raise
            if answer.failure:
                access.failed(_error_of(answer))
                return answer
            access.opened()
        worker.opened[access.reference] = access
    return Answer() if task is None else await worker.ask(task)


_ERRORS: Final[dict[Fault, type[TokenError]]] = {
    "token": TokenError,
    "closed": TokenClosed,
    "lost": TokenLost,
}


def _error_of(answer: Answer) -> ConfigError | TokenError:
    return _ERRORS.get(answer.fault, ConfigError)(answer.failure)


async def _start_worker() -> _Worker:
    # The worker finds this very package wherever the agent was started from, and nothing in the
    # current directory can stand in for it (-P).
    root = str(Path(node_agent.__file__).parents[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "node_agent.pki.signing_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    _log.info("signing_worker_started", pid=process.pid)
    return _Worker(process)
