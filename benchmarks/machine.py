"""What was measured on: without it a figure means nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Machine", "describe_machine", "library_versions"]

_LIBRARIES = ("cryptography", "msgspec", "uvloop", "httptools", "sqlalchemy", "uvicorn")


@dataclass(frozen=True, slots=True)
class Machine:
    """``load_before`` is the one-minute load average before the first benchmark."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    system: str
    load_before: float


def describe_machine() -> Machine:
    """Read the machine's description from the kernel."""
    return Machine(
        cpu=_first_value("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        cores=os.cpu_count() or 0,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release().split("-")[0],
        system=_system_name(),
        load_before=os.getloadavg()[0],
    )


def library_versions() -> dict[str, str]:
    """Return the versions of what the agent is made of."""
    found = {"Python": platform.python_version(), "OpenSSL": ssl.OPENSSL_VERSION.split()[1]}
    found["SQLite"] = sqlite3.sqlite_version
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _system_name() -> str:
    name = _first_value("/etc/os-release", "PRETTY_NAME", separator="=")
    return name.strip('"') if name else platform.system()


def _first_value(path: str, key: str, *, separator: str = ":") -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip()
    return ""
