"""Run the programs that do the work, and say what they said when one fails."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tools.test_hosts.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


def run(*command: str | Path, given: str | None = None) -> str:
    """Return what ``command`` prints; ``given`` is its input.

    Raises LabError with the program's own message.
    """
    words = [str(word) for word in command]
    ended = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip() or "it said nothing"
        raise LabError(f"'{' '.join(words)}' failed with status {ended.returncode}: {said}")
    return ended.stdout


def succeeds(*command: str | Path) -> bool:
    """Return whether ``command`` ends well; what it prints is dropped."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
