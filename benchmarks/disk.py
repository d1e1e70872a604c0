"""A disk that nothing was ever removed from, like that of a new host.

ext4 doesn't give a new file the number of one that was removed in the last minutes, but looks at
each of those first. Where thousands of files have just gone, making one takes many times as long,
so what is measured there is what was removed before.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.test_hosts.commands import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["new_disk"]

# The file behind the disk is sparse: it takes what is written to the disk.
_BYTES = 64 << 30


@contextmanager
def new_disk(directory: Path) -> Iterator[Path]:
    """Yield where a new, empty disk is mounted below ``directory``. Needs root.

    Raises LabError.
    """
    image, mounted = directory / "disk.img", directory / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(_BYTES)
    # Without direct I/O each byte is written twice, and kept in memory twice.
    device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
    try:
        run("mkfs.ext4", "-q", device)
        run("mount", device, mounted)
        try:
            yield mounted
        finally:
            run("umount", mounted)
    finally:
        run("losetup", "--detach", device)
        image.unlink()
