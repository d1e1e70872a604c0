"""Run ansible-test on the collection, wholly inside the repository.

ansible-test keeps caches below $HOME, forgets the caller's pip settings, and bootstraps pip with a
script from a host that need not be reachable. So it is given a home of its own below ``.ansible``,
with a bootstrap script that uses the pip inside Python, and with the caller's pip settings.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/peersys/pki"
HOME = ROOT / ".ansible/home"
_GET_PIP = """\
import ensurepip
ensurepip.bootstrap(upgrade=True, default_pip=True)
"""
_SETTING = re.compile(r"(?:global|install|:env:)\.(?P<name>[a-z-]+)='(?P<value>.*)'\Z")


def main() -> int:
    """Prepare the home and become ansible-test; arguments go through."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} sanity|units [ansible-test arguments]")
    command, *rest = sys.argv[1:]
    _write(HOME / f".ansible/test/cache/{_bootstrap_name()}", _GET_PIP)
    _write_pip_settings()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = {**os.environ, "HOME": str(HOME), "ANSIBLE_HOME": str(HOME / ".ansible")}
    # Its own checks forbid any setting from outside.
    environment.pop("ANSIBLE_CONFIG", None)
    return subprocess.run(
        ["ansible-test", command, "--python", version, *rest],
        cwd=COLLECTION,
        env=environment,
        check=False,
    ).returncode


def _bootstrap_name() -> str:
    """Return the file name under which this ansible-test looks for its pip bootstrap script."""
    package = importlib.util.find_spec("ansible_test")
    if package is None or package.origin is None:
        sys.exit("ansible-test is missing: run 'make venv'")
    source = Path(package.origin).parent / "_internal/python_requirements.py"
    version = re.search(r"\bpip='([0-9.]+)'", source.read_text(encoding="utf-8"))
    if version is None:
        sys.exit(f"{source} no longer names its pip version: adapt {__file__}")
    return f"get_pip_{version[1].replace('.', '_')}.py"


def _write_pip_settings() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = configparser.RawConfigParser()
    settings["global"] = {
        match["name"]: match["value"]
        # What stands in the environment wins, as it does for pip: it comes last.
        for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:"))
        if (match := _SETTING.match(line))
    }
    path = HOME / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    # An index URL may carry a password.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        settings.write(file)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
