# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A node agent as a systemd service: what differs from what is wanted, and making it so.

Whatever is changed, the service is restarted last. A mark is there from the first change to the
end of the restart: a run that was cut off in between is made up for by the next one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils import _host_checks as checks
from ansible_collections.peersys.pki.plugins.module_utils import _service
from ansible_collections.peersys.pki.plugins.module_utils._claim import CLAIM_PATH, Claim
from ansible_collections.peersys.pki.plugins.module_utils._credentials import CredentialStore
from ansible_collections.peersys.pki.plugins.module_utils._file_set import WantedFile
from ansible_collections.peersys.pki.plugins.module_utils._key_secrets import (
    NodePlace,
    check_key_secrets,
    check_length,
)
from ansible_collections.peersys.pki.plugins.module_utils._version_tree import Archive, VersionTree

_NOT_MADE = "not made yet"
_HIDDEN = "(hidden)\n"

Result = t.Dict[str, t.Any]


class NodeService:
    """The agent of one host."""

    def __init__(self, params: t.Mapping[str, t.Any], *, dry_run: bool) -> None:
        self._params = params
        self._dry_run = dry_run
        self._config_directory: str = params["config_directory"]
        self._place = NodePlace(
            params["name"], params["trust_domain"], self._config_directory, params["directories"][0]
        )
        self._claim = Claim(CLAIM_PATH, params["trust_domain"], params["name"])
        self._service = _service.Service(params["unit"])
        self._tree = VersionTree(params["install_directory"])
        self._credentials = CredentialStore(self._place.credentials)
        self._secrets = {one["name"]: one["content"] for one in params["credentials"]}
        self._pending = self._place.restart_pending
        self._steps: t.List[str] = []
        self._diff: t.List[t.Dict[str, str]] = []
        self.warnings: t.List[str] = []

    def start(self) -> Result:
        """Install, configure and run; or say which archive is missing for that."""
        target = self._check_host()
        release: t.Mapping[str, t.Any] = self._params["release"]
        version = release.get("versions", {}).get(_tag(target))
        whole = version is not None and self._tree.has(version)
        if not whole and not self._dry_run and "archive" not in release:
            return {"changed": False, "archive_wanted": target, **self._about()}
        if not whole or self._tree.current() != version:
            self._install(version, whole=whole)
        self._make_user()
        self._configure()
        self._restart_if_needed()
        return self._result(version)

    def stop(self) -> Result:
        """Stop the agent and keep everything."""
        checks.check_service_manager()
        self._claim.check()
        self._stop()
        return self._result(self._tree.current())

    def remove(self) -> Result:
        """Remove everything, the claim last."""
        checks.check_service_manager()
        self._claim.check()
        self._stop()
        for name, is_there, remove in self._removals():
            if is_there:
                self._step(f"remove {name}")
                if not self._dry_run:
                    remove()
        return self._result(None)

    def _check_host(self) -> t.Dict[str, str]:
        checks.check_service_manager()
        self._claim.check()
        target = checks.target_of(self._params["python"])
        release = self._params["release"]
        if "controller_seconds" in release:
            tolerance = self._params["clock_tolerance_seconds"]
            checks.check_clock(float(release["controller_seconds"]), tolerance)
        checks.check_addresses(self._params["listen_hosts"])
        checks.check_group(self._params["admin_group"])
        check_length(self._secrets)
        check_key_secrets(self._place, self._credentials, self._secrets)
        return target

    def _install(self, version: t.Optional[str], *, whole: bool) -> None:
        before = self._tree.current()
        self._step("install")
        shown = {"before": f"{before}\n" if before else "", "after": f"{version or _NOT_MADE}\n"}
        header = os.path.join(self._params["install_directory"], "current")
        self._diff.append({"before_header": header, "after_header": header, **shown})
        half_made = self._tree.half_made()
        if half_made:
            names = ", ".join(half_made)
            self.warnings.append(f"an earlier run left {names} half installed: it is replaced")
        if self._dry_run or version is None:
            return
        self._begin()
        if not whole:
            release = self._params["release"]
            brought = (release["archive"], release["sha256"], int(release["unpacked_bytes"]))
            self._tree.install(version, Archive(*brought), self._params["python"])
        self._tree.switch(version)

    def _make_user(self) -> None:
        if not _service.has_user(self._params["user"]):
            self._step("make user")
            if not self._dry_run:
                self._begin()
                _service.make_user(self._params["user"], self._params["directories"][0])

    def _configure(self) -> None:
        """Write the files of the service and of its unit."""
        config = os.path.join(self._config_directory, "node.yaml")
        differing_files = [
            file
            for path, content in (
                (config, self._params["config_content"]),
                (self._service.path, self._params["unit_content"]),
            )
            if not (file := WantedFile(path, content.encode(), 0o644, secret=False)).is_written()
        ]
        self._diff += [file.difference() for file in differing_files]
        if differing_files and not self._dry_run:
            self._begin()
            for file in differing_files:
                file.write()
        differing = self._credentials.differing(self._secrets)
        if differing and not self._dry_run:
            self._begin(differing)
            self._credentials.write(self._secrets, differing)
        self._diff += [_hidden(self._config_directory, name) for name in differing]
        if differing_files or differing:
            self._step("configure")

    def _restart_if_needed(self) -> None:
        if not self._steps and not os.path.exists(self._pending) and self._service.is_as_wanted():
            return
        self._step("restart")
        if not self._dry_run:
            self._begin()
            self._service.restart()
            os.unlink(self._pending)
            self._tree.prune()

    def _stop(self) -> None:
        if not os.path.exists(self._service.path):
            return
        state = self._service.state()
        if state["ActiveState"] != "inactive" or state["UnitFileState"] == "enabled":
            self._step("stop")
            if not self._dry_run:
                self._service.stop()

    def _removals(self) -> t.Iterator[t.Tuple[str, bool, t.Callable[[], None]]]:
        service, user = self._service, self._params["user"]
        yield service.unit, os.path.exists(service.path), service.remove
        yield "versions", self._tree.exists(), self._tree.remove
        has_user = _service.has_user(user)
        yield f"user {user}", has_user, functools.partial(_service.remove_user, user)
        for path in self._params["directories"]:
            yield path, os.path.exists(path), functools.partial(shutil.rmtree, path)
        for path in self._configuration():
            yield path, True, functools.partial(_delete, path)
        yield "claim", self._claim.is_made(), self._claim.remove

    def _configuration(self) -> t.List[str]:
        """Return what is in the configuration directory, without the claim."""
        directory = self._config_directory
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        paths = (os.path.join(directory, name) for name in names)
        return [path for path in paths if path != CLAIM_PATH]

    def _begin(self, credentials: t.Iterable[str] = ()) -> None:
        """Claim the host and mark that a restart is due, before the first change.

        ``credentials`` will be stored: the mark names them, until the service has started with them.
        """
        self._claim.make()
        with contextlib.suppress(FileExistsError):
            os.makedirs(self._config_directory, mode=0o755)
        with open(self._pending, "a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in credentials)

    def _step(self, name: str) -> None:
        self._steps.append(name)

    def _about(self) -> Result:
        return {"version": self._tree.current(), "steps": self._steps}

    def _result(self, version: t.Optional[str]) -> Result:
        about = {"version": version, "steps": self._steps}
        return {"changed": bool(self._steps), "diff": self._diff, **about}


def _tag(target: t.Mapping[str, str]) -> str:
    """Return the target's name; keep in sync with ``Target.tag`` of the controller."""
    python = target["python"].replace(".", "")
    return f"cp{python}-{target['machine']}-glibc{target['glibc']}"


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _hidden(directory: str, name: str) -> t.Dict[str, str]:
    path = os.path.join(directory, "credentials", name)
    before = _HIDDEN if os.path.exists(path) else ""
    return {"before_header": path, "after_header": path, "before": before, "after": _HIDDEN}
