# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""For which Python and C library wheels are chosen, and whether a set of wheels is complete there.

pip chooses wheels for another Python, but reads the conditions of a dependency ("only before
Python 3.13") with its own. So its choice is checked again here, with the target's values.
"""

from __future__ import annotations

import dataclasses
import email.parser
import pathlib
import typing as t
import zipfile

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ImportError as error:
    # ansible-core needs it too, so only its own import check is ever without.
    _missing_package: ImportError | None = error
else:
    _missing_package = None

# The oldest C library of any manylinux wheel (PEP 600: manylinux1 is glibc 2.5).
_OLDEST_GLIBC_MINOR = 5
_LEGACY_PLATFORMS = ("manylinux2014", "manylinux2010", "manylinux1")


@dataclasses.dataclass(frozen=True)
class Target:
    """A CPython on Linux, as a host describes its own."""

    python: str
    machine: str
    glibc: str

    @property
    def tag(self) -> str:
        """Name of the target; hosts with the same one take the same wheels."""
        return f"cp{self.python.replace('.', '')}-{self.machine}-glibc{self.glibc}"

    def pip_options(self) -> list[str]:
        """Return what makes pip choose for the target instead of its own Python."""
        minor = int(self.glibc.split(".")[1])
        names = [f"manylinux_2_{older}" for older in range(minor, _OLDEST_GLIBC_MINOR - 1, -1)]
        platforms = [f"--platform={name}_{self.machine}" for name in (*names, *_LEGACY_PLATFORMS)]
        python = [f"--python-version={self.python}", "--implementation=cp"]
        return ["--only-binary=:all:", *python, *platforms]

    def markers(self) -> dict[str, str]:
        """Return the values that conditions of dependencies are read with (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def missing_requirements(
    wheels: t.Iterable[pathlib.Path], roots: t.Sequence[str], target: Target
) -> list[str]:
    """Return what the roots need on the target and the wheels don't hold."""
    if _missing_package is not None:
        raise _missing_package
    needed_by = {_name(wheel): _requirements(wheel) for wheel in wheels}
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, str]] = set()
    missing: list[str] = []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in needed_by:
            missing.append(f"{requirement.name}{requirement.specifier}")
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [one for one in needed_by[name] if _holds(one, extra, target)]
    return sorted(set(missing))


def _holds(requirement: Requirement, extra: str, target: Target) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**target.markers(), "extra": extra})


def _name(wheel: pathlib.Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _requirements(wheel: pathlib.Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        path = next(
            name
            for name in archive.namelist()
            if name.endswith(".dist-info/METADATA") and name.count("/") == 1
        )
        metadata = email.parser.BytesHeaderParser().parsebytes(archive.read(path))
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
