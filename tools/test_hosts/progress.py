"""Say what happens, and when, to a person who waits."""

from __future__ import annotations

import time

_started = time.monotonic()


def report(line: str) -> None:
    """Print one line with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f} s] {line}", flush=True)
