# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A tree of Python packages as one archive, with nothing in it of the machine that made it."""

from __future__ import annotations

import compileall
import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import tarfile

# Bytecode is valid while the time of its source stays this one, here and on the host.
_FILE_TIME = 315532800
# Unpacking costs the same at any level; above this one the archive shrinks by a few per cent.
_COMPRESSION = 6


@dataclasses.dataclass(frozen=True)
class WrittenArchive:
    """What a host checks before it unpacks."""

    sha256: str
    unpacked_bytes: int


def write_archive(
    tree: pathlib.Path, archive: pathlib.Path, *, with_bytecode: bool
) -> WrittenArchive:
    """Write the tree, replacing ``archive`` as a whole."""
    for path in tree.rglob("*"):
        os.utime(path, (_FILE_TIME, _FILE_TIME))
    if with_bytecode:
        # A file that doesn't compile is a template or meant for another Python.
        compileall.compile_dir(tree, quiet=2, stripdir=str(tree))
    temporary = archive.with_name(f".{archive.name}")
    unpacked = 0
    with (
        open(temporary, "wb") as file,
        gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                unpacked += _add(tar, path, path.relative_to(tree).as_posix())
    os.replace(temporary, archive)
    return WrittenArchive(hashlib.sha256(archive.read_bytes()).hexdigest(), unpacked)


def _add(tar: tarfile.TarFile, path: pathlib.Path, name: str) -> int:
    content = path.read_bytes()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mtime = _FILE_TIME
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))
    return len(content)
