"""Files of hosts have the modes that they are given, whatever the caller's umask takes away.

Under the umask 077 a host's / would be root's alone, and sshd can't serve a user who may not look
there.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["usual_umask"]


@contextlib.contextmanager
def usual_umask() -> Iterator[None]:
    """Have new files readable by all, unless they are given a mode that says otherwise."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
