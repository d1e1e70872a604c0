"""One life of a status worker, as the agent sees it: its process, its socket, what it confirmed.

The rule that everything here serves: when ``confirm`` returns, either the worker has taken in all
that it was told before, or it is dead. A worker that is stopped, hung or mute is killed, and only
its death counts then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

import node_agent
from node_agent.status_workers.channel import Channel, open_channel
from node_agent.status_workers.messages import (
    Begin,
    Confirm,
    FromAgent,
    FromWorker,
    Listen,
    Listening,
    Pulse,
    Ready,
    Sign,
    Stop,
    decode_from_worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node_agent.web.bodies import HealthWord

__all__ = ["WorkerProcess"]

log = structlog.get_logger(__name__)

CONFIRM_SECONDS: Final = 0.7
"""A worker's event loop is busy for some milliseconds. With the death of one that doesn't confirm,
a revocation is still in force within a second.
"""

LATE_SECONDS: Final = 0.05
"""Before a worker is blamed: what it said may lie unread, because it was us who stood still."""

PULSE_SECONDS: Final = 1.0
MUTE_SECONDS: Final = 3.0
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 8.0
"""The status server gives answers five seconds to leave."""


class WorkerProcess:
    """``start`` it, ``run`` it until it ends. ``on_sign`` answers what it asks for."""

    def __init__(
        self,
        *,
        state: Callable[[], tuple[HealthWord, float | None]],
        on_sign: Callable[[WorkerProcess, Sign], None],
    ) -> None:
        self._state = state
        self._on_sign = on_sign
        self._channel: Channel[FromWorker] = Channel(
            decode_from_worker, on_message=self._take, on_lost=self._lost
        )
        self._process: asyncio.subprocess.Process | None = None
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._confirmed_at = self._started_at = self._loop.time()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._ended = asyncio.Event()
        self._started = asyncio.Event()
        self._is_stopping = False
        self.is_listening = False
        """Whether the worker may answer, so that it has to confirm."""
        self.last: Confirm | None = None
        """What the worker last said of itself."""

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    @property
    def lived_seconds(self) -> float:
        """For how long it has been running."""
        return self._loop.time() - self._started_at

    async def start(self, begin: Begin, listeners: Sequence[socket.socket]) -> None:
        """Start the process, which inherits ``listeners``. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # The worker finds this very package wherever the agent was started from, and nothing in
        # the current directory can stand in for it (-P).
        root = str(Path(node_agent.__file__).parents[1])
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "node_agent.status_workers.program"),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[item.fileno() for item in listeners],
                env={**os.environ, "PYTHONPATH": root},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        await open_channel(ours, self._channel)
        self.send(begin)

    def send(self, message: FromAgent) -> None:
        """Tell the worker."""
        self._channel.send(message)

    async def run(self) -> int:
        """Keep an eye on the worker until it ends; return its exit status."""
        process = self._process
        assert process is not None
        watching = asyncio.create_task(self._watch(), name=f"status-worker-{process.pid}")
        try:
            return await process.wait()
        except asyncio.CancelledError:
            self.kill("the node ends")
            await process.wait()
            raise
        finally:
            self._ended.set()
            watching.cancel()
            await asyncio.wait([watching])
            self._channel.close()
            for future in self._waiting.values():
                future.set_result(None)
            self._waiting.clear()
            self._started.set()

    async def started(self) -> None:
        """Return once the worker accepts connections, or has ended."""
        await self._started.wait()

    async def confirm(self) -> None:
        """Return once the worker has taken in all that it was told, or is dead."""
        if not self.is_listening or self._ended.is_set():
            return
        confirmed = self._waiting[self._pulse()] = self._loop.create_future()
        for seconds in (CONFIRM_SECONDS, LATE_SECONDS):
            await asyncio.wait([confirmed], timeout=seconds)
        if not confirmed.done():
            self.kill("it doesn't confirm what it was told")
            await asyncio.wait([confirmed])

    async def stop(self) -> None:
        """Let the worker end by itself; kill it when it takes too long."""
        self._is_stopping = True
        self.send(Stop())
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            self.kill("it doesn't stop")
            await self._ended.wait()

    def kill(self, reason: str) -> None:
        """End the worker at once."""
        if not self._ended.is_set():
            log.error("status worker killed", pid=self.pid, reason=reason)
            self._kill()

    async def _watch(self) -> None:
        while not self._ended.is_set():
            if self._complaint():
                await asyncio.sleep(LATE_SECONDS)
                if complaint := self._complaint():
                    self.kill(complaint)
            if self.is_listening:
                self._pulse()
            await asyncio.sleep(PULSE_SECONDS)

    def _complaint(self) -> str:
        now = self._loop.time()
        if not self.is_listening:
            return "it doesn't start" if now - self._started_at > START_SECONDS else ""
        return "it gives no sign of life" if now - self._confirmed_at > MUTE_SECONDS else ""

    def _pulse(self) -> int:
        self._number += 1
        self.send(Pulse(self._number, *self._state()))
        return self._number

    def _take(self, message: FromWorker) -> None:
        match message:
            case Sign():
                self._on_sign(self, message)
            case Confirm():
                self._note(message)
            case Ready():
                # It accepts nobody before this: what it confirms counts from its first answer on.
                self.is_listening = True
                self._confirmed_at = self._loop.time()
                self.send(Listen())
                self._pulse()
            case Listening():
                self._started.set()

    def _note(self, confirm: Confirm) -> None:
        self.last = confirm
        self._confirmed_at = self._loop.time()
        for number in [number for number in self._waiting if number <= confirm.number]:
            self._waiting.pop(number).set_result(None)

    def _lost(self) -> None:
        if not self._is_stopping:
            self._kill()  # it is dead already, or deaf

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
