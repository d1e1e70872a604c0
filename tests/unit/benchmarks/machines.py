"""A machine for pages made in tests."""

from __future__ import annotations

from benchmarks.machine import Machine

MACHINE = Machine(
    cpu="Example CPU", cores=2, memory_gib=24, kernel="6.1", system="Debian", load_before=0.1
)
