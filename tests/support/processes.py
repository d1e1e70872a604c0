"""Real programs as child processes: started with their log in a file, waited for by condition,
stopped cleanly, and never left behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ManagedProcess", "free_address", "free_port", "wait_until"]

_POLL_SECONDS = 0.02
_alive: weakref.WeakSet[ManagedProcess] = weakref.WeakSet()


def wait_until(
    condition: Callable[[], object], *, timeout_seconds: float = 10, what: str | Callable[[], str]
) -> None:
    """Return as soon as ``condition`` is true. Raises TimeoutError naming ``what``."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise TimeoutError(f"not within {timeout_seconds:g} s: {text}")
        time.sleep(_POLL_SECONDS)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on at ``host`` now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def free_address() -> str:
    """Return ``127.x.y.z:port`` that nobody else takes: a random loopback address keeps parallel
    tests and outgoing connections (whose source is 127.0.0.1) away from the port.
    """
    first, second, third = os.urandom(3)
    host = f"127.{first % 200 + 20}.{second}.{third % 250 + 2}"
    return f"{host}:{free_port(host)}"


class ManagedProcess:
    """One child process, leader of its own process group, with stdout and stderr in ``log_path``.

    ``cpus`` pins it (and its children) to those cores, in taskset's notation (``0`` or ``0,1``).
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        cpus: str | None = None,
        directory: Path | None = None,
    ) -> None:
        pin = ["taskset", "--cpu-list", cpus] if cpus else []
        self.command = [*pin, *(str(part) for part in command)]
        self.log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it must not run already."""
        if self.is_running:
            raise RuntimeError(f"{self.command[0]} runs already")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
            )
        _alive.add(self)

    def wait_ready(self, condition: Callable[[], object], *, timeout_seconds: float = 30) -> None:
        """Wait for ``condition``. Raises RuntimeError with the log when it ends or is late."""
        try:
            wait_until(
                lambda: not self.is_running or condition(),
                timeout_seconds=timeout_seconds,
                what=f"{self.command[0]} is ready",
            )
        except TimeoutError as error:
            raise RuntimeError(f"{error}; its log ends:\n{self.log_tail()}") from error
        if not self.is_running:
            raise RuntimeError(
                f"{' '.join(self.command)} ended with {self.returncode}; its log ends:\n"
                f"{self.log_tail()}"
            )

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, negative signal number, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self, *, timeout_seconds: float = 15) -> int | None:
        """Ask it to end, wait, then kill what is left of its group; return the exit status."""
        if self._process is None:
            return None
        if self.is_running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """Kill the whole group at once (a power cut as far as the program can tell)."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        _alive.discard(self)

    def pause(self) -> None:
        """Freeze it: sockets stay open and nobody answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, not to its group."""
        if self._process is not None:
            self._process.send_signal(number)

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def cpu_seconds(self) -> float:
        """Return the CPU time its process group has used so far (user and system)."""
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(_group_cpu_ticks(self.pid)) / ticks

    def resident_kib(self) -> int:
        """Return the resident memory of the process itself, in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0


def _group_cpu_ticks(group: int) -> list[int]:
    ticks = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command name may hold spaces; the fields after its closing parenthesis don't.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks.append(int(fields[11]) + int(fields[12]))
    return ticks


@atexit.register
def _kill_leftovers() -> None:
    for process in list(_alive):
        process.kill()
