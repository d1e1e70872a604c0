# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring the agent's release to the host, if the module finds that it isn't there."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.peersys.pki.plugins.plugin_utils._agent_source import (
    AgentSource,
    SourceError,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._host_action import HostAction
from ansible_collections.peersys.pki.plugins.plugin_utils._wheel_target import Target
from ansible_collections.peersys.pki.plugins.plugin_utils._wheelhouse import (
    Wheelhouse,
    WheelhouseError,
)

_MODULE = "peersys.pki.node_service"
_NEEDED = ("source", "wheelhouse")

display = Display()


class ActionModule(HostAction):
    """The controller's part of M(peersys.pki.node_service)."""

    # A temporary directory is made when there is something to bring, not before.
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module; build, bring and run it again when it wants the archive."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        if arguments.get("state", "started") != "started" or not self._has_source(arguments):
            return self.run_module(_MODULE, arguments, variables)
        try:
            return self._start(arguments, variables)
        except (SourceError, WheelhouseError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error

    def _has_source(self, arguments: t.Mapping[str, t.Any]) -> bool:
        # The module says which argument is missing.
        return all(arguments.get(name) for name in _NEEDED)

    def _start(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        source = AgentSource(arguments["source"], arguments.get("extras") or ())
        wheelhouse = Wheelhouse(arguments["wheelhouse"], source)
        known = {tag: release.version for tag, release in wheelhouse.known().items()}
        result = self._run(arguments, variables, {"versions": known})
        wanted = result.get("archive_wanted")
        if wanted is None:
            return result
        target = Target(wanted["python"], wanted["machine"], wanted["glibc"])
        release = wheelhouse.release(target, display.display)
        archive = self.bring_file(release.archive, variables)
        brought = {
            "versions": {target.tag: release.version},
            "archive": archive,
            "sha256": release.sha256,
            "unpacked_bytes": release.unpacked_bytes,
        }
        return self._run(arguments, variables, brought)

    def _run(
        self,
        arguments: dict[str, t.Any],
        variables: dict[str, t.Any],
        release: dict[str, t.Any],
    ) -> dict[str, t.Any]:
        told = {**release, "controller_seconds": time.time()}
        return self.run_module(_MODULE, {**arguments, "release": told}, variables)
