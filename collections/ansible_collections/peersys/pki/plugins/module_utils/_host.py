# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What stands in the way on a host, said with its remedy; and programs, run without a shell."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import typing as t

_MEGABYTE = 1_000_000
_AGAIN = "then run the playbook again"


class HostError(Exception):
    """The host isn't as it must be."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. Remedy: {remedy}, {_AGAIN}")
        self.cause = cause


class CommandError(HostError):
    """A program of the host failed."""


def run_command(*command: str, given: str = "", remedy: str = "") -> str:
    """Run a program and return what it prints. ``given`` reaches it through its standard input."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=_environment()
        )
    except FileNotFoundError as error:
        raise CommandError(
            f"the host has no program {command[0]}", remedy or "install it"
        ) from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
        raise CommandError(
            f"{' '.join(command[:3])} failed: {said}", remedy or "clear the cause on the host"
        )
    return done.stdout


def explain(error: OSError, directory: str) -> HostError:
    """Return an error of the file system as one with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(os.path.dirname(error.filename or "") or directory, needed_bytes=0)
    return HostError(
        f"{error.filename or directory}: {error.strerror or error}",
        "see that root may write there",
    )


def no_space(directory: str, needed_bytes: int) -> HostError:
    """Return the error of a full disk, with what is free and what is needed."""
    there = directory
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    free = shutil.disk_usage(there).free // _MEGABYTE
    needed = f", {needed_bytes // _MEGABYTE + 1} MB are needed" if needed_bytes else ""
    return HostError(
        f"no space is left for {directory}: {free} MB are free{needed}",
        f"free some space on the file system of {there}",
    )


def check_space(directory: str, needed_bytes: int) -> None:
    """Refuse to start what can't be finished."""
    there = directory
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if shutil.disk_usage(there).free < needed_bytes:
        raise no_space(directory, needed_bytes)


def _environment() -> t.Dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}
