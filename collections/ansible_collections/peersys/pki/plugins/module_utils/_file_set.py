# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A directory with a few small files, each of which is replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import tempfile
import typing as t

_HIDDEN = "(hidden)\n"


@dataclasses.dataclass(frozen=True)
class WantedFile:
    """A file as it is to be."""

    path: str
    content: bytes
    mode: int
    secret: bool

    def is_written(self) -> bool:
        """Return whether the file is so already."""
        with contextlib.suppress(FileNotFoundError):
            return _mode(self.path) == self.mode and _content(self.path) == self.content
        return False

    def write(self) -> None:
        """Replace the file; nobody ever sees half of it, or one with a wider mode."""
        directory, name = os.path.split(self.path)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(self.content)
                os.fchmod(descriptor, self.mode)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise

    def difference(self) -> dict[str, str]:
        """Return the diff entry, to be taken before the file is written."""
        before = b""
        with contextlib.suppress(FileNotFoundError):
            before = _content(self.path)
        shown = {
            "before": _HIDDEN if self.secret and before else before.decode(errors="replace"),
            "after": _HIDDEN if self.secret else self.content.decode(errors="replace"),
        }
        return {"before_header": self.path, "after_header": f"{self.path} {self.mode:04o}", **shown}


@dataclasses.dataclass(frozen=True)
class FileSet:
    """The directory and its files."""

    directory: str
    directory_mode: int
    files: t.Sequence[WantedFile]

    def write(self, *, dry_run: bool) -> dict[str, t.Any]:
        """Write what differs. Returns changed, diff and the names of the files written."""
        wrong = not os.path.isdir(self.directory) or _mode(self.directory) != self.directory_mode
        differing = [file for file in self.files if not file.is_written()]
        result = {
            "changed": wrong or bool(differing),
            "diff": [file.difference() for file in differing],
            "written": [os.path.basename(file.path) for file in differing],
        }
        if not dry_run:
            if wrong:
                os.makedirs(self.directory, exist_ok=True)
                os.chmod(self.directory, self.directory_mode)
            for file in differing:
                file.write()
        return result


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
