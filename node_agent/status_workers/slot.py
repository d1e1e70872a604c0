"""One place on the status port: its sockets, and the worker that accepts on them, life after life.

The agent holds the sockets, too. Connections that arrive between two lives wait for the next one
instead of being refused. Only when lives are short does the place close, so that the kernel sends
everyone to the other places until the next try.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import ConfigError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from node_agent.status_workers.messages import Begin
    from node_agent.status_workers.process import WorkerProcess

__all__ = ["WorkerSlot"]

log = structlog.get_logger(__name__)

_LONG_LIFE_SECONDS: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 0.25
_MOST_PAUSE_SECONDS: Final = 10.0


class WorkerSlot:
    """``bind`` makes sockets, ``make`` a worker that isn't started, ``begin`` what it is told
    first; ``on_start`` tells it the rest, ``on_end`` takes leave of it.
    """

    def __init__(
        self,
        number: int,
        *,
        bind: Callable[[], list[socket.socket]],
        make: Callable[[], WorkerProcess],
        begin: Callable[[int, Sequence[int]], Begin],
        on_start: Callable[[WorkerProcess], None],
        on_end: Callable[[WorkerProcess], None],
    ) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.restarts = 0
        self._bind = bind
        self._make = make
        self._begin = begin
        self._on_start = on_start
        self._on_end = on_end
        self._sockets = bind()
        self._short_lives = 0
        self._is_stopping = False
        self._first = asyncio.Event()

    async def run(self) -> None:
        """Keep a worker running until ``stop``."""
        try:
            while not self._is_stopping:
                pause = await self._try_to_live()
                if pause and not self._is_stopping:
                    self.close()
                    await asyncio.sleep(pause)
        finally:
            self._first.set()
            self.close()

    async def first_start(self) -> None:
        """Return once the first worker accepts connections, or has failed to."""
        await self._first.wait()

    async def stop(self) -> None:
        """Let the worker answer what it was asked, and start no other."""
        self._is_stopping = True
        self.close()
        if self.worker is not None:
            await self.worker.stop()

    def close(self) -> None:
        """Close our side of the sockets."""
        for item in self._sockets:
            item.close()
        self._sockets = []

    def answers(self) -> Mapping[str, int]:
        """Return what the worker of now has answered, by kind."""
        last = None if self.worker is None else self.worker.last
        return {} if last is None else last.answers

    async def _try_to_live(self) -> float:
        """Run one worker to its end; return how long to wait before the next."""
        try:
            if not self._sockets:
                self._sockets = self._bind()
            return await self._live()
        except (OSError, ConfigError) as error:
            log.error("status worker doesn't start", number=self.number, reason=str(error))
            self._first.set()
            return self._pause(0.0)

    async def _live(self) -> float:
        worker = self._make()
        begin = self._begin(self.number, [item.fileno() for item in self._sockets])
        await worker.start(begin, self._sockets)
        self.worker = worker
        self._on_start(worker)
        announcing = asyncio.create_task(self._announce(worker), name="status-worker-start")
        try:
            status = await worker.run()
        finally:
            self.worker = None
            self._on_end(worker)
            await announcing
        if not self._is_stopping:
            self.restarts += 1
            log.warning("status worker ended", number=self.number, pid=worker.pid, status=status)
        return self._pause(worker.lived_seconds)

    async def _announce(self, worker: WorkerProcess) -> None:
        await worker.started()
        self._first.set()

    def _pause(self, lived_seconds: float) -> float:
        if lived_seconds >= _LONG_LIFE_SECONDS:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        longer: float = _FIRST_PAUSE_SECONDS * 2 ** min(self._short_lives - 1, 10)
        return min(_MOST_PAUSE_SECONDS, longer)
