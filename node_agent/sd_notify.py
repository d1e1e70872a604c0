"""Tell the service manager how we are (sd_notify(3)), where there is one."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_agent.clock import Clock

__all__ = ["keep_watchdog_fed", "notify_ready", "notify_stopping", "watchdog_seconds"]

# sd_watchdog_enabled(3) advises half of the interval; a third outlives one delayed turn.
_TURNS_PER_INTERVAL = 3


def notify_ready(status: str) -> None:
    """Say that start-up is over; ``status`` is shown by ``systemctl status``."""
    _notify(f"READY=1\nSTATUS={status}")


def notify_stopping() -> None:
    """Say that we are ending on purpose."""
    _notify("STOPPING=1")


def watchdog_seconds() -> float | None:
    """Return within which time the service manager wants signs of life, None when it wants none.

    It may want them from another process: a child inherits the environment.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or process != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000 or None


async def keep_watchdog_fed(clock: Clock) -> None:
    """Give signs of life for as long as the event loop turns.

    Whoever has nothing else to do on that loop can't hide that it stands still: the service manager
    then ends and restarts the node. Returns at once where nobody watches.
    """
    interval = watchdog_seconds()
    while interval is not None:
        _notify("WATCHDOG=1")
        await clock.sleep(interval / _TURNS_PER_INTERVAL)


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect(address)
        manager.sendall(state.encode())
