"""What the service manager hears from us, and when."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from node_agent.sd_notify import (
    keep_watchdog_fed,
    notify_ready,
    notify_stopping,
    watchdog_seconds,
)
from tests.support.event_loop import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CountingClock:
    """Sleeps at once, and ends the sleeper after some turns."""

    def __init__(self, turns: int) -> None:
        self.slept: list[float] = []
        self._turns = turns

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self._turns:
            raise asyncio.CancelledError


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(path)
        yield listening


def test_ready_carries_a_status_and_stopping_is_said(manager: socket.socket) -> None:
    notify_ready("serving as spiffe://t/node/n")
    notify_stopping()
    assert manager.recv(200) == b"READY=1\nSTATUS=serving as spiffe://t/node/n"
    assert manager.recv(200) == b"STOPPING=1"


def test_nothing_is_sent_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with mock.patch("socket.socket") as made:
        notify_ready("fine")
    assert not made.called


@pytest.mark.parametrize(
    ("microseconds", "process", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "own", 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog_is_meant_for_the_process_that_it_names(
    microseconds: str | None,
    process: str | None,
    seconds: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = str(os.getpid()) if process == "own" else process
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", own)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds


def test_signs_of_life_come_three_times_an_interval(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    clock = CountingClock(turns=3)
    with pytest.raises(asyncio.CancelledError):
        run(keep_watchdog_fed(clock))
    assert clock.slept == [1.0, 1.0, 1.0]
    assert [manager.recv(50) for _turn in clock.slept] == [b"WATCHDOG=1"] * 3


def test_without_a_watchdog_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    clock = CountingClock(turns=1)
    run(keep_watchdog_fed(clock))
    assert clock.slept == []
