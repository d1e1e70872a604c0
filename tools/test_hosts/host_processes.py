"""Find and end the processes of hosts, also of hosts that nobody wrote down.

Each process that starts a host, and the host's own init, carries the host's directory in its
environment. A host whose starter was killed is found by that. Its init goes on without the starter;
the end of the init ends everything in the host, at once and without a word: a power cut.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools.test_hosts.errors import LabError
from tools.test_hosts.places import MARKER

if TYPE_CHECKING:
    from collections.abc import Collection

    from tools.test_hosts.places import Places

_PATIENCE_SECONDS = 20
_MAX_ROUNDS = 50


@dataclass(slots=True)
class HostProcesses:
    """The init of a host, if it runs, and what keeps it."""

    init: int | None = None
    keepers: list[int] = field(default_factory=list)


def find_processes(places: Places) -> dict[str, HostProcesses]:
    """Return what runs, by the names of hosts."""
    found: dict[str, HostProcesses] = {}
    start = f"{MARKER}={places.hosts}/".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or (name := _marked(entry, start)) is None:
            continue
        host = found.setdefault(name, HostProcesses())
        if _is_init(entry):
            host.init = int(entry.name)
        else:
            host.keepers.append(int(entry.name))
    return found


def cut_power(places: Places, names: Collection[str] | None = None) -> list[str]:
    """End hosts (all without ``names``) without a word to anything in them; return which ran.

    One that is only being started makes new processes meanwhile: look again until there is none.
    """
    ended: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        found = find_processes(places)
        chosen = {name: own for name, own in found.items() if names is None or name in names}
        if not chosen:
            return sorted(ended)
        ended.update(chosen)
        for processes in chosen.values():
            if processes.init is not None:
                _kill([processes.init])
            # Without its init a keeper would end by itself, too.
            _kill(processes.keepers)
    raise LabError(f"processes of {', '.join(sorted(ended))} come back however often they end")


def _marked(process: Path, start: bytes) -> str | None:
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # ended since, or a kernel thread
        return None
    marks = (value for value in environment if value.startswith(start))
    mark = next(marks, None)
    return None if mark is None else mark[len(start) :].decode()


def _is_init(process: Path) -> bool:
    """Say whether the process is number 1 in the namespace that it lives in."""
    try:
        status = (process / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) > 1 and numbers[-1] == "1"


def _kill(identifiers: list[int]) -> None:
    handles = []
    for identifier in identifiers:
        try:
            handles.append(os.pidfd_open(identifier))
        except ProcessLookupError:
            continue
    try:
        for handle in handles:
            _end(handle)
    finally:
        for handle in handles:
            os.close(handle)


def _end(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    if not select.select([handle], [], [], _PATIENCE_SECONDS)[0]:
        raise LabError(f"a process of a host hasn't ended within {_PATIENCE_SECONDS} s of SIGKILL")
