"""Tell the service manager how we are (sd_notify(3)), where there is one."""

from __future__ import annotations

import os
import socket

__all__ = ["notify_ready", "notify_stopping"]


def notify_ready(status: str) -> None:
    """Say that start-up is over; ``status`` is shown by ``systemctl status``."""
    _notify(f"READY=1\nSTATUS={status}")


def notify_stopping() -> None:
    """Say that we are ending on purpose."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect(address)
        manager.sendall(state.encode())
