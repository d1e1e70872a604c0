"""Signing without stalling the event loop.

A P-256 signature takes 0.04 ms and is made inline. RSA and ML-DSA take 1 to 7 ms, RSA key
generation up to seconds: they go to worker processes, so that no link misses its keep-alive. The
keys travel encrypted as the token keeps them; a worker learns a token's passphrase once, through
its pipe. A worker that dies is replaced, and its task done again by another: signing has no side
effect that could happen twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

import node_agent
from node_agent.errors import ConfigError, TokenError, Unavailable
from node_agent.pki.keys import is_cheap
from node_agent.pki.signing_worker import (
    MAX_FRAME_BYTES,
    Answer,
    GenerateTask,
    SignTask,
    Task,
    UnlockTask,
    decode_answer,
    encode_frame,
)
from node_agent.pki.token import SoftToken, TokenKey
from node_agent.store.records import KeyRecord

if TYPE_CHECKING:
    from types import TracebackType

    from node_agent.pki.keys import SigningKey

__all__ = ["SigningPool"]

_log = structlog.get_logger(__name__)
_ATTEMPTS = 3
_STOP_SECONDS = 2.0


@dataclass(slots=True)
class _Worker:
    """A worker process and the tokens, by name, that it was told the passphrase of."""

    process: asyncio.subprocess.Process
    unlocked: dict[str, SoftToken] = field(default_factory=dict)

    async def ask(self, task: Task) -> Answer:
        """Send a task and return its answer. Raises OSError or EOFError when the worker is gone."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
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


class SigningPool:
    """Worker processes for slow signatures; ``async with`` starts and stops it.

    Workers start when they are first needed, at most ``workers`` of them. Tasks beyond wait their
    turn within their own deadline.
    """

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} signing workers are impossible", remedy="use 1 or more")
        self._workers = workers
        self._idle: list[_Worker] = []
        self._free = asyncio.Semaphore(workers)
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
        idle, self._idle = self._idle, []
        await asyncio.gather(*(worker.stop() for worker in idle))

    async def sign(
        self, key: SigningKey, data: bytes, *, is_digest: bool = False, timeout_seconds: float = 30
    ) -> bytes:
        """Return the signature of ``data``, or of the message that it is the digest of.

        Raises TokenError when the key can't be opened, Unavailable when no worker finished in time.
        """
        if is_cheap(key.kind) or not isinstance(key, TokenKey):
            return key.sign_digest(data) if is_digest else key.sign(data)
        keep = key.token.activation == "automatic"
        task = SignTask(key.token.reference, key.encrypted_private, data, is_digest, keep)
        (signature,) = await self._perform(key.token, task, timeout_seconds)
        return signature

    async def generate(
        self,
        token: SoftToken,
        label: str,
        kind: str,
        *,
        created_at: int,
        timeout_seconds: float = 60,
    ) -> KeyRecord:
        """Make a key in a worker, add it to ``token`` and return what has to be stored.

        Raises Conflict when the label exists, TokenError, Unavailable.
        """
        if is_cheap(kind):
            return token.generate(label, kind, created_at=created_at)
        sibling = token.any_record
        known = b"" if sibling is None else sibling.encrypted_private
        task = GenerateTask(token.reference, kind, known)
        encrypted, spki = await self._perform(token, task, timeout_seconds)
        record = KeyRecord(
            token=token.name,
            label=label,
            key_kind=kind,
            public_der=spki,
            encrypted_private=encrypted,
            created_at=created_at,
            node=token.node,
        )
        token.add(record)
        return record

    async def _perform(
        self, token: SoftToken, task: Task, timeout_seconds: float
    ) -> tuple[bytes, ...]:
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self._answer(token, task)
        except TimeoutError as error:
            raise Unavailable("no signing worker finished in time") from error
        if answer.failure:
            raise (TokenError if answer.is_token_fault else ConfigError)(answer.failure)
        return answer.parts

    async def _answer(self, token: SoftToken, task: Task) -> Answer:
        for _ in range(_ATTEMPTS):
            async with self._free:
                if self._closed:
                    break
                try:
                    worker = self._idle.pop() if self._idle else await _start_worker()
                except OSError as error:
                    raise Unavailable(f"no signing worker starts: {error.strerror}") from error
                answer = await self._attempt(worker, token, task)
                if answer is not None:
                    return answer
        raise Unavailable("the signing workers don't stay up")

    async def _attempt(self, worker: _Worker, token: SoftToken, task: Task) -> Answer | None:
        """Return the worker's answer, or None when it died over it."""
        try:
            answer = await _ask_unlocked(worker, token, task)
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
        await self._keep(worker)
        return answer

    async def _keep(self, worker: _Worker) -> None:
        if self._closed:
            await worker.stop()
        else:
            self._idle.append(worker)


async def _ask_unlocked(worker: _Worker, token: SoftToken, task: Task) -> Answer:
    if worker.unlocked.get(token.reference) is not token:
        cost = token.cost
        unlock = UnlockTask(token.reference, token.passphrase, (cost.n, cost.r, cost.p))
        await worker.ask(unlock)
        worker.unlocked[token.reference] = token
    return await worker.ask(task)


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
