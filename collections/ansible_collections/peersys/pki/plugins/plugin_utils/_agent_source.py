# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The agent's source on the controller: what it needs, and whether it has changed."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import tomllib
import typing as t

_DESCRIPTION = "pyproject.toml"
_CONSTRAINTS = "constraints.txt"
_BESIDE = (_DESCRIPTION, _CONSTRAINTS, "LICENSE")


class SourceError(Exception):
    """The directory holds no source of the agent."""


class AgentSource:
    """A directory with a ``pyproject.toml`` and the packages that it lists. ``extras`` are optional
    parts of the agent that are wanted, too.
    """

    def __init__(self, directory: str, extras: t.Sequence[str] = ()) -> None:
        self._extras = sorted(set(extras))
        self._directory = pathlib.Path(directory)
        try:
            description = tomllib.loads((self._directory / _DESCRIPTION).read_text("utf-8"))
            self._project: dict[str, t.Any] = description["project"]
            self._packages = description["tool"]["setuptools"]["packages"]["find"]["include"]
        except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
            raise SourceError(
                f"{directory} holds no source of the agent ({_DESCRIPTION}: {error}). "
                "Remedy: set node_source to a checkout of Peersys"
            ) from error
        known = self._project.get("optional-dependencies", {})
        unknown = [extra for extra in self._extras if extra not in known]
        if unknown:
            raise SourceError(
                f"the agent in {directory} has no extra {unknown[0]!r}. Remedy: give node_extras "
                f"some of {', '.join(sorted(known))}"
            )
        self._optional = [need for extra in self._extras for need in known[extra]]

    @property
    def dependencies(self) -> list[str]:
        """What the agent needs, as requirements."""
        return sorted([*self._project["dependencies"], *self._optional])

    @property
    def constraints(self) -> pathlib.Path | None:
        """The file with the versions that the agent was tested with, if the source has one."""
        path = self._directory / _CONSTRAINTS
        return path if path.is_file() else None

    @property
    def digest(self) -> str:
        """Hash of every file that ends up in the agent's wheel, or decides about it."""
        whole = hashlib.sha256()
        for path in self._files():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{content}  {path.relative_to(self._directory)}\n".encode())
        for extra in self._extras:
            whole.update(f"extra  {extra}\n".encode())
        return whole.hexdigest()

    def copy_to(self, directory: pathlib.Path) -> None:
        """Copy the source; building leaves files behind, and takes old ones for new."""
        for path in self._files():
            copied = directory / path.relative_to(self._directory)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)

    def _files(self) -> list[pathlib.Path]:
        beside = [path for name in _BESIDE if (path := self._directory / name).is_file()]
        packages = (
            path
            for pattern in self._packages
            for package in self._directory.glob(pattern)
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        return sorted({*beside, *packages})
