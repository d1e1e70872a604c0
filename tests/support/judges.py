"""Programs of others that judge what we make: skipped with a reason where one isn't installed."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

__all__ = ["Nss", "require_module", "require_program"]


def require_program(name: str, package: str) -> str:
    """Return where a program is. Skip the running test without it, or fail it where CI says that
    everything must be there.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is not None:
        return path
    _lacking(name, package)


def require_module(name: str, package: str) -> ModuleType:
    """Return a Python module that not everybody has. Skip or fail without it, as above; a module
    of tests may ask for it at its top.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        _lacking(name, package)


def _lacking(name: str, package: str) -> NoReturn:
    reason = f"{name} is not installed: install the package '{package}'"
    if os.environ.get("PEERSYS_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"{reason} (PEERSYS_REQUIRE_PROGRAMS=1)")
    pytest.skip(reason, allow_module_level=True)


class Nss:
    """NSS's ``vfychain`` with a database that trusts one root (both certificates in DER)."""

    def __init__(self, directory: Path, *, root: bytes, issuer: bytes) -> None:
        package = "libnss3-tools"
        self._vfychain = require_program("vfychain", package)
        self._certutil = require_program("certutil", package)
        self._database = directory / "nss"
        self._database.mkdir()
        self._run(self._certutil, "-N", "-d", str(self._database), "--empty-password")
        for name, certificate, trust in (("root", root, "CT,C,C"), ("issuer", issuer, ",,")):
            path = self._database / f"{name}.der"
            path.write_bytes(certificate)
            added = ("-n", name, "-t", trust, "-i", str(path))
            self._run(self._certutil, "-A", "-d", str(self._database), *added)

    def judge(self, certificate: bytes, method: str, *, strict: bool = True) -> bool:
        """Return whether NSS takes a TLS server's certificate (DER) by what ``method`` (``ocsp``,
        ``crl``) fetches from where it points to. Unless ``strict``, no news is good news.
        """
        leaf = self._database / "leaf.der"
        leaf.write_bytes(certificate)
        tests = ["-g", "leaf", *(["-h", "requireFreshInfo"] if strict else []), "-m", method]
        said = self._run(
            *(self._vfychain, "-d", str(self._database), "-pp", "-u", "1", *tests),
            *(["-s", "requireInfo"] if strict else []),
            *(str(leaf), str(self._database / "issuer.der")),
            may_fail=True,
        )
        if "Chain is good!" in said:
            return True
        assert "Peer's Certificate has been revoked" in said, said
        return False

    def _run(self, *command: str, may_fail: bool = False) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert may_fail or done.returncode == 0, done.stderr
        return done.stdout + done.stderr
