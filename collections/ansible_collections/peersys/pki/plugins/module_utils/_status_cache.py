# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The nginx in front of VAs: its package, its files, its unit, and whether it has its ports.

What would keep it from running is found before anything is changed: a port that somebody else has,
a configuration that nginx refuses. Whatever is changed, nginx reads it last; a mark is there until
it did, so a run that was cut off in between is made up for by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils import _host_checks as checks
from ansible_collections.peersys.pki.plugins.module_utils import _service
from ansible_collections.peersys.pki.plugins.module_utils._file_set import FileSet, WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._host import (
    CommandError,
    HostError,
    run_command,
)
from ansible_collections.peersys.pki.plugins.module_utils._listening import (
    Address,
    Listener,
    listeners,
)
from ansible_collections.peersys.pki.plugins.module_utils._waiting import (
    WaitedInVain,
    wait_until,
)

Result = t.Dict[str, t.Any]
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "nginx")
_INSTALLING, _PENDING = ".installing", ".restart-pending"


class StatusCache:
    """The cache of one host."""

    def __init__(self, params: t.Mapping[str, t.Any], *, dry_run: bool) -> None:
        self._params = params
        self._dry_run = dry_run
        self._directory: str = params["config_directory"]
        self._service = _service.Service(params["unit"])
        self._addresses = [Address.parse(text) for text in params["listen"]]
        self._steps: t.List[str] = []
        self._diff: t.List[t.Dict[str, str]] = []

    def start(self) -> Result:
        """Install, configure and run."""
        checks.check_systemd()
        if self._is_marked(_INSTALLING) and not self._dry_run:
            self._install()
        self._check_ports()
        # What a run that was cut off had changed isn't known.
        owed = self._is_marked(_PENDING)
        if _program() is None:
            self._install()
        differs = self._configure()
        self._run(anew=owed or differs)
        return self._result()

    def remove(self) -> Result:
        """Remove everything but nginx itself."""
        checks.check_systemd()
        if os.path.exists(self._service.path):
            self._step("remove service")
            if not self._dry_run:
                self._service.stop()
                self._service.remove()
        there = [path for path in self._everything() if os.path.lexists(path)]
        if there:
            self._step("remove files")
        for path in () if self._dry_run else there:
            _delete(path)
        return self._result()

    def _everything(self) -> t.Iterator[str]:
        yield self._directory
        for path in (self._params["cache_directory"], self._params["runtime_directory"]):
            yield path
            # Where systemd keeps those of a user who exists only while the unit runs.
            yield os.path.join(os.path.dirname(path), "private", os.path.basename(path))

    def _check_ports(self) -> None:
        """Raise HostError for a port that another program has."""
        own = self._main_process()
        others = [one for one in listeners() if own not in one.programs]
        for wanted in self._addresses:
            for other in others:
                if other.port == wanted.port and wanted.is_taken_by(other.host):
                    raise _taken(other)

    def _silent(self) -> t.List[str]:
        """Return the addresses on which the cache doesn't listen yet."""
        own, found = self._main_process(), listeners()
        return [
            f"{wanted.host}:{wanted.port}"
            for wanted in self._addresses
            if not any(own in one.programs and one.port == wanted.port for one in found)
        ]

    def _main_process(self) -> int:
        return self._service.main_process() if os.path.exists(self._service.path) else 0

    def _install(self) -> None:
        """Install nginx; the server that its package starts is stopped."""
        self._step("install nginx")
        if self._dry_run:
            return
        self._mark(_INSTALLING)
        try:
            run_command("env", "DEBIAN_FRONTEND=noninteractive", *_INSTALL)
        except CommandError as error:
            self._unmark(_INSTALLING)
            said = "; ".join(re.findall(r"E: (.*)", error.cause)) or error.cause
            raise HostError(
                f"nginx isn't installed here, and apt-get can't install it: {said}",
                "install the package nginx on this host, or give the host a package index",
            ) from error
        _service.Service("nginx.service").stop()
        self._unmark(_INSTALLING)

    def _configure(self) -> bool:
        """Write what differs. Returns whether a running nginx must start anew to follow."""
        config = os.path.join(self._directory, "nginx.conf")
        wanted = [
            WantedFile(path, self._params[content].encode(), 0o644, secret=False)
            for path, content in (
                (config, "config_content"),
                (self._service.path, "unit_content"),
            )
        ]
        differing = [file for file in wanted if not file.is_written()]
        self._diff += [file.difference() for file in differing]
        if differing:
            self._step("configure")
            self._check_configuration()
            if not self._dry_run:
                self._mark(_PENDING)
                for file in differing:
                    file.write()
        return any(file.path == self._service.path for file in differing)

    def _check_configuration(self) -> None:
        """Raise HostError with what nginx says against the configuration."""
        program = _program()
        if program is None:
            return
        content = self._params["config_content"]
        with tempfile.TemporaryDirectory(prefix="peersys-status-cache-") as scratch:
            # nginx makes the directories that it is told, as root, before it looks further.
            for name in ("cache_directory", "runtime_directory"):
                os.mkdir(os.path.join(scratch, name))
                content = content.replace(self._params[name], os.path.join(scratch, name))
            path = os.path.join(scratch, "nginx.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
            try:
                run_command(program, "-t", "-q", "-c", path)
            except CommandError as error:
                said = re.findall(r"\[emerg\] (?:\d+#\d+: )?(.*)", error.cause)
                raise HostError(
                    f"nginx refuses its configuration: {said[0] if said else error.cause}".replace(
                        path, "nginx.conf"
                    ),
                    "correct the variable of the role status_cache that this comes from",
                ) from error

    def _run(self, *, anew: bool) -> None:
        """Have nginx run as its files say, and wait until it has its ports."""
        runs = os.path.exists(self._service.path) and self._service.is_as_wanted()
        if runs and not self._steps and not anew and not self._silent():
            return
        reloads = runs and not anew
        self._step("reload" if reloads else "restart")
        if self._dry_run:
            return
        self._mark(_PENDING)
        began = int(time.time())
        if reloads:
            self._service.reload()
        else:
            self._service.restart()
        self._wait(began)
        self._unmark(_PENDING)

    def _wait(self, began: int) -> None:
        seconds = self._params["start_timeout_seconds"]
        try:
            wait_until(self._silent, ", ".join, seconds)
        except WaitedInVain as error:
            raise HostError(
                f"{self._service.unit} doesn't listen on {error}; it says: "
                f"{self._service.said_since(began) or 'nothing'}",
                "clear the cause that it names",
            ) from error

    def _is_marked(self, name: str) -> bool:
        return os.path.exists(os.path.join(self._directory, name))

    def _mark(self, name: str) -> None:
        FileSet(self._directory, 0o755, []).write(dry_run=False)
        with open(os.path.join(self._directory, name), "w", encoding="utf-8"):
            pass

    def _unmark(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, name))

    def _step(self, name: str) -> None:
        self._steps.append(name)

    def _result(self) -> Result:
        return {"changed": bool(self._steps), "diff": self._diff, "steps": self._steps}


def _program() -> t.Optional[str]:
    return shutil.which("nginx", path=_PATH)


def _taken(other: Listener) -> HostError:
    named = [f"{program} (process {process})" for process, program in other.programs.items()]
    by = named[0] if named else "another program"
    return HostError(
        f"port {other.port} of this host is taken: {by} listens on {other.host}:{other.port}",
        "stop that program, or have the cache listen elsewhere (listen in the topology's "
        "status_caches, or status_cache_listen)",
    )


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
