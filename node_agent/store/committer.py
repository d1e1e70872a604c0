"""Group commit: one thread takes every write that waits and commits them in one transaction.

A durable commit costs a disk flush however little it writes, so the writes that arrive during one
flush share the next. Rules:

1. An answer is given only after the commit that holds its write.
2. A refused command (Conflict, NotFound) fails alone; it has staged nothing.
3. A transaction that fails as a whole is tried again command by command, so that one command
   that the database refuses can't take the others with it.
4. A caller that is cancelled leaves its command in the queue: the write is whole or never began.
5. The queue is bounded; a full queue makes callers wait, up to a deadline.
6. Closing commits everything that was accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from node_agent.asker import ASKER
from node_agent.errors import Conflict, StoreError
from node_agent.store.bulk import bulk_for
from node_agent.store.marks import CommitMarks, Fate
from node_agent.store.transaction import Needs, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Sequence

    import sqlalchemy as sa

    from node_agent.clock import Clock
    from node_agent.store.commands import Command

__all__ = ["GroupCommitter"]

_log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")

MAX_BATCH_COMMANDS: Final = 256
"""Beyond some hundred commands the flush is no longer what a command costs."""

MAX_BATCH_WEIGHT: Final = 10_000
"""Rows in one transaction; bounds how long a small write waits behind bulk ones."""

MAX_QUEUED: Final = 4096
"""Writes that wait; at 5,000 a second the last of them waits less than a second."""

QUEUE_TIMEOUT_SECONDS: Final = 30.0
"""How long a caller waits for a place in a full queue."""

GATHER_SECONDS: Final = 0.002
MAX_GATHER_SECONDS: Final = 0.012
"""How long a batch waits for company: so long for each companion that the batch before it had.

Under load the writer is otherwise back for the next batch before a second request got that far: at
300 enrolments a second it took 3 writes a time, and the transactions cost the CA a sixth of its CPU
more than with a wait of 4 ms. The more comes, the more a longer wait saves. It ends when as many
have come as the batch before had: who has a bound on what is under way sends no more. A lone write
never waits, nor does what is written for an asker who wrote one thing at most in the batch before:
it was others who brought the company.
"""

MAX_ATTEMPTS: Final = 3
"""Tries of a batch whose database connection breaks each time."""

CLOSE_TIMEOUT_SECONDS: Final = 60.0
"""How long closing waits for the queue to be committed."""


class _Entry:
    """A command, the future of the coroutine that waits for it, and for whom it is."""

    __slots__ = ("asker", "command", "future", "outcome")

    def __init__(self, command: Command[Any], future: asyncio.Future[Any]) -> None:
        self.command = command
        self.future = future
        self.asker = ASKER.get()
        self.outcome: Any = None


class _Failure:
    """An outcome that is raised instead of returned."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class GroupCommitter:
    """The writer's queue and thread. Start it inside the loop whose coroutines will submit."""

    def __init__(self, engine: sa.Engine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._bulk = bulk_for(engine.dialect.name)
        self._marks = CommitMarks(os.urandom(16), enabled=engine.dialect.name == "postgresql")
        self._queue: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._accepting = False
        self._places = asyncio.Semaphore(MAX_QUEUED)
        self._thread: threading.Thread | None = None
        self._has_begun = False
        self._companions = 0
        # Who had company of their own in the batch before.
        self._crowds: Container[Hashable] = ()
        self._is_urgent = False
        self.on_commit: Callable[[float], None] = lambda seconds: None

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Refuse new writes, commit the queued ones, end the thread."""
        with self._wake:
            self._accepting = False
            self._wake.notify()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, CLOSE_TIMEOUT_SECONDS)
            if thread.is_alive():
                raise StoreError("the store can't commit what is queued")
        # The thread's answers were handed to the loop before it ended; let them be delivered.
        await asyncio.sleep(0)

    async def submit(self, command: Command[ResultT]) -> ResultT:
        """Return the command's answer after its commit. Raises StoreError."""
        if self._places.locked():
            await self._wait_for_place()
        else:
            await self._places.acquire()
        entry = _Entry(command, self._loop.create_future())
        with self._wake:
            if not self._accepting:
                self._places.release()
                raise StoreError("the store is closed")
            self._queue.append(entry)
            if entry.asker is not None and entry.asker not in self._crowds:
                self._is_urgent = True
            if len(self._queue) == 1 or self._is_company_complete():
                self._wake.notify()
        return cast("ResultT", await entry.future)

    async def _wait_for_place(self) -> None:
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT_SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreError("the store can't keep up with the writes") from error

    def _run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            # The loop is gone only when its program was torn down without closing the store.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, batch)
        with contextlib.suppress(SQLAlchemyError):
            self._marks.forget(self._engine)

    def _next_batch(self) -> list[_Entry]:
        """Wait for writes and take what fits one transaction; an empty list is the end."""
        batch: list[_Entry] = []
        weight = 0
        with self._wake:
            while not self._queue and self._accepting:
                self._wake.wait()
            if self._companions and self._accepting:
                patience = min(self._companions * GATHER_SECONDS, MAX_GATHER_SECONDS)
                self._wake.wait_for(self._is_company_complete, patience)
            self._is_urgent = False
            while self._queue and len(batch) < MAX_BATCH_COMMANDS:
                weight += self._queue[0].command.weight
                if batch and weight > MAX_BATCH_WEIGHT:
                    break
                batch.append(self._queue.popleft())
            counts = Counter(entry.asker for entry in batch)
            self._crowds = {asker for asker, count in counts.items() if count > 1}
        self._companions = max(0, len(batch) - 1)
        return batch

    def _deliver(self, batch: Sequence[_Entry]) -> None:
        for entry in batch:
            self._places.release()
            if entry.future.done():
                continue
            if isinstance(entry.outcome, _Failure):
                entry.future.set_exception(entry.outcome.error)
            else:
                entry.future.set_result(entry.outcome)

    def _is_company_complete(self) -> bool:
        return self._is_urgent or len(self._queue) > self._companions or not self._accepting

    def _commit(self, batch: Sequence[_Entry], *, attempts: int = MAX_ATTEMPTS) -> None:
        try:
            self._attempt(batch)
        except Exception as error:  # the thread's root: whatever it is, the callers must learn it
            if self._marks.is_in_doubt(error):
                self._settle(batch, error, attempts=attempts - 1)
            elif len(batch) == 1 or not self._has_begun:
                _fail(batch, error)
            else:
                _log.warning("batch failed", writes=len(batch), error=repr(error))
                for entry in batch:
                    self._commit([entry])

    def _settle(self, batch: Sequence[_Entry], error: Exception, *, attempts: int) -> None:
        fate = self._marks.fate(self._engine)
        _log.warning("database connection failed", fate=fate.name, error=repr(error))
        if fate is Fate.ROLLED_BACK and attempts > 0:
            self._commit(batch, attempts=attempts)
        elif fate is not Fate.COMMITTED:
            _fail(batch, error, is_unknown=fate is Fate.UNKNOWN)

    def _attempt(self, batch: Sequence[_Entry]) -> None:
        began = time.perf_counter()
        self._write(batch)
        self.on_commit(time.perf_counter() - began)

    def _write(self, batch: Sequence[_Entry]) -> None:
        self._marks.begin()
        self._has_begun = False
        with self._engine.begin() as connection:
            self._has_begun = True
            transaction = Transaction(connection, self._bulk, now=int(self._clock.now()))
            needs = Needs()
            ready = [entry for entry in batch if _prepare(entry, needs)]
            transaction.load(needs)
            for entry in ready:
                _stage(entry, transaction)
            transaction.flush()
            self._marks.write(connection, at=transaction.now)


def _prepare(entry: _Entry, needs: Needs) -> bool:
    try:
        entry.command.needs(needs)
    except StoreError as error:
        entry.outcome = _Failure(error)
        return False
    return True


def _stage(entry: _Entry, transaction: Transaction) -> None:
    try:
        entry.outcome = entry.command.stage(transaction)
    except StoreError as error:
        entry.outcome = _Failure(error)


def _fail(batch: Sequence[_Entry], error: Exception, *, is_unknown: bool = False) -> None:
    for entry in batch:
        entry.outcome = _Failure(_translated(error, is_unknown=is_unknown))


def _translated(error: Exception, *, is_unknown: bool) -> BaseException:
    """Return what the caller of a write that failed is told; each caller gets its own."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    if is_unknown:
        translated = StoreError(f"the database is gone; the write's outcome is unknown: {orig}")
    elif isinstance(error, IntegrityError):
        translated = Conflict(f"the write contradicts what is stored: {orig}")
    elif isinstance(error, DBAPIError):
        translated = StoreError(f"the database refused: {orig}")
    elif isinstance(error, SQLAlchemyError | OverflowError | ValueError):
        translated = StoreError(f"the write can't be stored: {error}")
    else:
        return error
    translated.__cause__ = error
    return translated
