# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Releases of the agent for hosts without a package index, made on the controller and kept there.

What a host gets is one archive: the unpacked wheels of the agent and of all that it needs, with
bytecode where the controller's Python makes the target's. A release is named after the hashes of
its wheels, so two controllers with the same wheels make the same release.

Layout: ``dependencies/<target>-<hash of what is needed>/*.whl`` and
``releases/<hash of the source>/<target>.json`` beside the archive that it describes. Each is made
under another name and then renamed: what is there is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._agent_source import AgentSource
from ansible_collections.peersys.pki.plugins.plugin_utils._release_archive import write_archive
from ansible_collections.peersys.pki.plugins.plugin_utils._wheel_target import (
    Target,
    missing_requirements,
)

# Part of every key: what was made by another edition of this file is made again.
_EDITION = "1"
# A condition may uncover a requirement with conditions of its own; more than a few never happened.
_MOST_ROUNDS = 5
_KEPT_SOURCES = 3
# Files in wheels can't be older (ZIP knows no earlier year).
_EPOCH = "315532800"


class WheelhouseError(Exception):
    """Wheels can't be had or built. The message has a remedy."""


@dataclasses.dataclass(frozen=True)
class Release:
    """One archive for one target."""

    version: str
    archive: str
    sha256: str
    unpacked_bytes: int


class Wheelhouse:
    """The releases of one source that are kept in one directory."""

    def __init__(self, directory: str, source: AgentSource) -> None:
        self._directory = pathlib.Path(directory)
        self._source = source
        self._own = self._directory / "releases" / _digest(_EDITION, source.digest)

    def known(self) -> dict[str, Release]:
        """Return the releases that are made already, by target."""
        found = {path.stem: _read(path) for path in sorted(self._own.glob("*.json"))}
        return {tag: release for tag, release in found.items() if os.path.exists(release.archive)}

    def release(self, target: Target, announce: t.Callable[[str], None]) -> Release:
        """Return the release for a target, and make it if nobody else did meanwhile.

        Raises WheelhouseError when the index can't be reached or has no fitting wheel.
        """
        with self._locked():
            release = self.known().get(target.tag)
            if release is None:
                announce(f"Making the agent's release for {target.tag} in {self._directory}")
                release = self._make(target)
                self._prune()
        return release

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with open(self._directory / ".lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, target: Target) -> Release:
        dependencies = self._dependencies(target)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._directory) as temporary:
            work = pathlib.Path(temporary)
            agent = self._build_agent(work)
            wheels = sorted([*dependencies.glob("*.whl"), agent], key=lambda path: path.name)
            version = f"{agent.name.split('-')[1]}-{_wheels_digest(wheels, target)[:12]}"
            tree = work / "site-packages"
            _pip(
                *("install", "--target", str(tree), "--no-compile", "--no-deps", "--no-index"),
                *target.pip_options(),
                *map(str, wheels),
            )
            shutil.rmtree(tree / "bin", ignore_errors=True)
            self._own.mkdir(parents=True, exist_ok=True)
            archive = self._own / f"{version}-{target.tag}.tar.gz"
            written = write_archive(tree, archive, with_bytecode=_is_own_python(target))
            release = Release(version, str(archive), written.sha256, written.unpacked_bytes)
            description = work / "release.json"
            description.write_text(json.dumps(dataclasses.asdict(release), indent=2), "utf-8")
            description.replace(self._own / f"{target.tag}.json")
        return release

    def _dependencies(self, target: Target) -> pathlib.Path:
        wanted, constraints = self._source.dependencies, self._source.constraints
        pinned = "" if constraints is None else constraints.read_text("utf-8")
        kept = self._directory / "dependencies"
        directory = kept / f"{target.tag}-{_digest(_EDITION, target.tag, pinned, *wanted)}"
        if not directory.is_dir():
            kept.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".getting-", dir=kept) as temporary:
                wheels = pathlib.Path(temporary) / "wheels"
                _download(wanted, constraints, target, wheels)
                wheels.rename(directory)
        return directory

    def _build_agent(self, work: pathlib.Path) -> pathlib.Path:
        source, built = work / "source", work / "built"
        self._source.copy_to(source)
        _pip("wheel", "--no-deps", "--wheel-dir", str(built), str(source))
        return next(built.glob("*.whl"))

    def _prune(self) -> None:
        made = sorted(self._own.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in made[:-_KEPT_SOURCES]:
            shutil.rmtree(old)


def _download(
    wanted: t.Sequence[str],
    constraints: pathlib.Path | None,
    target: Target,
    wheels: pathlib.Path,
) -> None:
    asked = list(wanted)
    pinned = [] if constraints is None else [f"--constraint={constraints}"]
    for _round in range(_MOST_ROUNDS):
        _pip("download", "--dest", str(wheels), *pinned, *target.pip_options(), *asked)
        missing = missing_requirements(wheels.glob("*.whl"), wanted, target)
        if not missing:
            return
        asked += missing
    raise WheelhouseError(f"no complete set of wheels for {target.tag}: {', '.join(missing)}")


def _pip(command: str, *arguments: str) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments],
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WheelhouseError(
            f"pip {command} failed on the controller: {_essence(done.stderr or done.stdout)}. "
            "Remedy: see that the controller's Python has pip and reaches a package index "
            "(pip config list), or bring a wheelhouse that was made elsewhere; then run again"
        )


def _essence(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(errors or lines[-3:]) or "without a word"


def _is_own_python(target: Target) -> bool:
    own = sys.version_info
    return sys.implementation.name == "cpython" and target.python == f"{own[0]}.{own[1]}"


def _wheels_digest(wheels: t.Iterable[pathlib.Path], target: Target) -> str:
    lines = (f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}" for one in wheels)
    return _digest(_EDITION, target.tag, *lines)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: pathlib.Path) -> Release:
    return Release(**json.loads(path.read_text("utf-8")))
