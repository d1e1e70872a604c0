# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""One detached agent process, found again by its PID file.

The PID file has two lines: the process number with the kernel's start time of that process, so
that a number which the kernel gave to somebody else is not mistaken for ours, and a fingerprint
of what the agent was started with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._client import is_listening

_POLL_SECONDS = 0.02


class ProcessError(Exception):
    """The agent didn't start or didn't end."""


class AgentProcess:
    """The process behind ``pid_file``."""

    def __init__(self, pid_file: str, stop_timeout_seconds: float) -> None:
        self._pid_file = pid_file
        self._stop_timeout_seconds = stop_timeout_seconds

    def pid(self) -> int | None:
        """Return the number of the running process, None when it doesn't run."""
        number, started, _rest = self._recorded()
        return number if number and started and _start_time(number) == started else None

    def fingerprint(self) -> str:
        """Return what the process was started with, as ``fingerprint_of`` makes it."""
        return self._recorded()[2]

    def start(
        self,
        command: t.Sequence[str],
        *,
        log_file: str,
        directories: t.Sequence[str],
        fingerprint: str,
        ready_socket: str | None = None,
        start_timeout_seconds: float = 30.0,
    ) -> int:
        """Start the agent and return its number once it listens on ``ready_socket``.

        Raises ProcessError with the end of the log when it ends or isn't ready in time.
        """
        for directory in directories:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(log_file, "ab", opener=_private) as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        with open(self._pid_file, "w", encoding="ascii", opener=_private) as file:
            file.write(f"{process.pid} {_start_time(process.pid)}\n{fingerprint}\n")
        if ready_socket:
            _wait_until_ready(process, ready_socket, start_timeout_seconds, log_file)
        # The agent outlives us on purpose; without this the interpreter would complain of it.
        process.returncode = 0
        return process.pid

    def stop(self) -> None:
        """End the agent: SIGTERM, then SIGKILL after the stop timeout. Raises ProcessError."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            self._wait_for_end()
        if self.pid() is not None:
            raise ProcessError(f"process {self.pid()} doesn't end")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file)

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + self._stop_timeout_seconds
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _recorded(self) -> tuple[int, int, str]:
        try:
            with open(self._pid_file, encoding="ascii") as file:
                first, fingerprint = file.read().split("\n")[:2]
            number, started = first.split()
            return int(number), int(started), fingerprint
        except (FileNotFoundError, ValueError):
            return 0, 0, ""


def _wait_until_ready(
    process: subprocess.Popen[bytes], path: str, seconds: float, log_file: str
) -> None:
    deadline = time.monotonic() + seconds
    while not is_listening(path):
        status = process.poll()
        if status is not None:
            raise ProcessError(f"the agent ended with status {status}; {_tail(log_file)}")
        if time.monotonic() >= deadline:
            raise ProcessError(f"no listener on {path} after {seconds:g} s; {_tail(log_file)}")
        time.sleep(_POLL_SECONDS)


def fingerprint_of(command: t.Sequence[str], start_files: t.Sequence[str]) -> str:
    """Return a hash over the command and the content of its start-up files."""
    digest = hashlib.sha256("\0".join(command).encode())
    for path in start_files:
        digest.update(b"\0")
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _start_time(pid: int) -> int:
    """Return the process's start time in clock ticks since boot, 0 when it has ended (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _tail(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()[-5:]
    return f"{path} ends with: {' | '.join(lines)}" if lines else f"{path} is empty"
