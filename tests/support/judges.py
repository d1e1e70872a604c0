"""Programs of others that judge what we make: skipped with a reason where one isn't installed."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["require_program"]


def require_program(name: str, package: str) -> str:
    """Return where a program is. Skip the running test without it, or fail it where CI says that
    everything must be there.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is not None:
        return path
    reason = f"{name} is not installed: install the package '{package}'"
    if os.environ.get("PEERSYS_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"{reason} (PEERSYS_REQUIRE_PROGRAMS=1)")
    pytest.skip(reason)
