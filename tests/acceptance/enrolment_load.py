"""Requesters that ask all the time, from threads of their own, until they are told to stop."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from tests.acceptance.deployment import AUTHORITY, PROFILE
from tests.acceptance.requester import Enrolment, Requester

if TYPE_CHECKING:
    from types import TracebackType

# For one certificate, with all retries.
_PATIENCE_SECONDS = 60.0


class EnrolmentLoad:
    """Enrols names ``<number>.<label>.example.org`` in parallel, each once."""

    def __init__(
        self,
        urls: list[str],
        *,
        token: str,
        trust_anchors: str,
        label: str,
        authority: str = AUTHORITY,
        profile: str = PROFILE,
        parallel: int = 8,
    ) -> None:
        self.label = label
        self._asked_for = {"authority": authority, "profile": profile}
        self.done: list[Enrolment] = []
        self.failures: list[Exception] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._work, args=(Requester(urls, token, trust_anchors, first=number),)
            )
            for number in range(parallel)
        ]

    def __enter__(self) -> EnrolmentLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let each finish what it asked for, and wait for it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, *, seconds: float) -> None:
        """Wait until ``count`` certificates are there, or something failed."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: len(self.done) >= count or bool(self.failures), seconds
            )
        assert not self.failures, self.failures[0]
        assert reached, f"{len(self.done)} of {count} certificates after {seconds} s"

    def _work(self, requester: Requester) -> None:
        try:
            while not self._stopping.is_set():
                self._enrol(requester)
        except Exception as error:  # a thread's last words are the test's to judge
            with self._changed:
                self.failures.append(error)
                self._changed.notify_all()
        finally:
            requester.close()

    def _enrol(self, requester: Requester) -> None:
        name = f"{next(self._numbers)}.{self.label}.example.org"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        enrolled = requester.enrol(name, deadline=deadline, **self._asked_for)
        with self._changed:
            self.done.append(enrolled)
            self._changed.notify_all()
