"""The process keeper must be right itself: every integration test trusts it."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ManagedProcess, free_address, wait_until

if TYPE_CHECKING:
    from pathlib import Path

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)"
)


def start(tmp_path: Path, source: str) -> ManagedProcess:
    process = ManagedProcess([sys.executable, "-c", source], log_path=tmp_path / "log")
    process.start()
    process.wait_ready(lambda: "up" in process.log_tail())
    return process


def test_stop_terminates_and_reports_the_signal(tmp_path: Path) -> None:
    process = start(tmp_path, SLEEPER)
    assert process.stop() == -15
    assert not process.is_running


def test_stop_kills_what_ignores_the_request(tmp_path: Path) -> None:
    process = start(tmp_path, STUBBORN)
    assert process.stop(timeout_seconds=0.2) == -9


def test_kill_takes_the_children_along(tmp_path: Path) -> None:
    source = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('up', child.pid, flush=True); time.sleep(60)"
    )
    process = start(tmp_path, source)
    child = int(process.log_tail().split()[1])
    process.kill()
    wait_until(lambda: not is_alive(child), timeout_seconds=5, what="the child ends")
    assert not process.is_running


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped doesn't."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_paused_process_can_be_stopped(tmp_path: Path) -> None:
    process = start(tmp_path, SLEEPER)
    process.pause()
    assert process.stop() == -15


def test_readiness_of_a_program_that_ends_shows_its_log(tmp_path: Path) -> None:
    process = ManagedProcess(
        [sys.executable, "-c", "raise SystemExit('no such port')"], log_path=tmp_path / "log"
    )
    process.start()
    with pytest.raises(RuntimeError, match="no such port"):
        process.wait_ready(lambda: False)


def test_cpu_seconds_counts_work(tmp_path: Path) -> None:
    began = time.monotonic()
    process = start(tmp_path, "print('up', flush=True)\nwhile True: pass")
    wait_until(lambda: process.cpu_seconds() > 0.05, timeout_seconds=10, what="CPU time grows")
    used, passed = process.cpu_seconds(), time.monotonic() - began
    process.kill()
    # One thread has one CPU at most; user and system time come in whole ticks.
    assert used <= passed + 2 / os.sysconf("SC_CLK_TCK")


def test_free_addresses_can_be_bound_at_once() -> None:
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            host, _, port = free_address().rpartition(":")
            listener.bind((host, int(port)))
        assert first.getsockname() != second.getsockname()
