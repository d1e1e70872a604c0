# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The agent's versions on a host, side by side, and the link that says which one counts.

A version is unpacked under another name and renamed when it is whole; its inventory is written
last. What has no inventory, or another number or size of files than that says, was half made by a
run that ended early and is made again. The version before the current one is kept to go back to.
"""

from __future__ import annotations

import configparser
import contextlib
import glob
import hashlib
import json
import os
import shutil
import tarfile
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._host import (
    CommandError,
    HostError,
    check_space,
    run_command,
)

_INVENTORY = "inventory.json"
_MAKING = ".making-"
_CHUNK_BYTES = 1 << 20
# File systems round up to blocks, and bytecode may have to be made here.
_SPACE_FACTOR = 1.5


class Archive(t.NamedTuple):
    """A release as it arrived."""

    path: str
    sha256: str
    unpacked_bytes: int


class VersionTree:
    """Versions below ``root``, a directory of their own."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._versions = os.path.join(root, "versions")

    def current(self) -> t.Optional[str]:
        """Return the version that counts, None when none does."""
        return self._target("current")

    def has(self, version: str) -> bool:
        """Return whether the version is there and whole."""
        directory = os.path.join(self._versions, version)
        try:
            with open(os.path.join(directory, _INVENTORY), encoding="utf-8") as file:
                return bool(json.load(file) == _inventory(directory))
        except (OSError, ValueError):
            return False

    def half_made(self) -> t.List[str]:
        """Return the names of what an earlier run didn't finish."""
        return [name for name in self._names() if name.startswith(_MAKING) or not self.has(name)]

    def install(self, version: str, archive: Archive, python: str) -> None:
        """Unpack a version beside the others. Raises HostError, OSError; leaves nothing half made."""
        check_space(self._versions, int(archive.unpacked_bytes * _SPACE_FACTOR))
        making = os.path.join(self._versions, f"{_MAKING}{version}")
        final = os.path.join(self._versions, version)
        _remove(making)
        try:
            os.makedirs(making, mode=0o755)
            _unpack(archive, os.path.join(making, "site-packages"))
            _make_environment(making, final, python)
            with open(os.path.join(making, _INVENTORY), "w", encoding="utf-8") as file:
                json.dump(_inventory(making), file)
            # The rename may reach the disk before the files do.
            os.sync()
            _remove(final)
            os.rename(making, final)
        except BaseException:
            _remove(making)
            raise

    def switch(self, version: str) -> None:
        """Make a version the one that counts, in one step."""
        before = self.current()
        if before not in (None, version):
            self._link("previous", os.path.join("versions", str(before)))
        self._link("current", os.path.join("versions", version))
        self._link("bin", "current/bin")

    def prune(self) -> None:
        """Remove what is neither the current version nor the one before it."""
        kept = {self.current(), self._target("previous")}
        for name in self._names():
            if name not in kept:
                _remove(os.path.join(self._versions, name))

    def exists(self) -> bool:
        """Return whether there is anything to remove."""
        return os.path.isdir(self._versions)

    def remove(self) -> None:
        """Remove every version, and the root if it holds nothing else."""
        for name in ("bin", "current", "previous"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._root, name))
        _remove(self._versions)
        with contextlib.suppress(OSError):
            os.rmdir(self._root)

    def _names(self) -> t.List[str]:
        return sorted(os.listdir(self._versions)) if self.exists() else []

    def _target(self, link: str) -> t.Optional[str]:
        try:
            return os.path.basename(os.readlink(os.path.join(self._root, link)))
        except OSError:
            return None

    def _link(self, name: str, target: str) -> None:
        path = os.path.join(self._root, name)
        if os.path.islink(path) and os.readlink(path) == target:
            return
        temporary = os.path.join(self._root, f".{name}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)


def _unpack(archive: Archive, directory: str) -> None:
    whole = hashlib.sha256()
    with open(archive.path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
    if whole.hexdigest() != archive.sha256:
        raise HostError(
            "the agent's archive arrived with another SHA-256 than it was sent with",
            "see that the connection and the disk of the host are sound",
        )
    with tarfile.open(archive.path) as tar:
        # Pythons before 3.11.4 have no filters; the names are checked below anyway.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in tar:
            path = os.path.normpath(os.path.join(directory, member.name))
            if not path.startswith(directory + os.sep) or not member.isfile():
                raise HostError(f"the agent's archive holds {member.name}", "make it again")
            tar.extract(member, directory)


def _make_environment(making: str, final: str, python: str) -> None:
    """Make a virtual environment (PEP 405) around the packages: no tool on the host is needed."""
    version, program, bytecode = _describe(python)
    library = os.path.join(making, "lib", f"python{version}")
    os.makedirs(library)
    packages = os.path.join(library, "site-packages")
    os.rename(os.path.join(making, "site-packages"), packages)
    os.mkdir(os.path.join(making, "bin"))
    os.symlink(program, os.path.join(making, "bin", "python"))
    _write(os.path.join(making, "pyvenv.cfg"), f"home = {os.path.dirname(program)}\n", 0o644)
    for name, function in _programs(packages):
        module, _colon, attribute = function.partition(":")
        text = (
            f"#!{final}/bin/python -I\nimport sys\nfrom {module} import {attribute}\n"
            f"sys.exit({attribute}())\n"
        )
        _write(os.path.join(making, "bin", name), text, 0o755)
    brought = os.path.join(packages, "*", "__pycache__", f"*.{bytecode}.pyc")
    if not any(glob.iglob(brought)):
        # What doesn't compile is a template or meant for another Python.
        with contextlib.suppress(CommandError):
            run_command(program, "-I", "-m", "compileall", "-q", packages)


def _describe(python: str) -> t.Tuple[str, str, str]:
    """Return version, program, and what the names of its bytecode end in."""
    code = (
        "import os, sys; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable), "
        "sys.implementation.cache_tag)"
    )
    version, program, bytecode = run_command(python, "-c", code).split()
    return version, program, bytecode


def _programs(packages: str) -> t.Iterator[t.Tuple[str, str]]:
    for name in sorted(os.listdir(packages)):
        if name.startswith("peersys-") and name.endswith(".dist-info"):
            parser = configparser.ConfigParser()
            parser.read(os.path.join(packages, name, "entry_points.txt"), encoding="utf-8")
            yield from parser.items("console_scripts")


def _inventory(directory: str) -> t.Dict[str, int]:
    """Count files and their bytes; bytecode may come and go."""
    files = size = 0
    waiting = [directory]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        waiting.append(entry.path)
                elif entry.name != _INVENTORY:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return {"files": files, "bytes": size}


def _write(path: str, text: str, mode: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
