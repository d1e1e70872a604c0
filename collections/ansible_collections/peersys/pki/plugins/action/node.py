# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module of this collection as it is; say well what keeps it from running.

``meta/runtime.yml`` sends every module here that has no action plugin of its own. The name is that
of one of them, because ansible-test wants a module behind each action plugin.
"""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._host_action import HostAction


class ActionModule(HostAction):
    """The controller's part of M(peersys.pki.node), and of the modules that have no other."""

    _supports_async = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module that the task names, in the background where the task says so."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        in_background = bool(self._task.async_val) and not self._connection.has_native_async
        told = self.run_module(
            self._task.action, self._task.args, task_vars or {}, in_background=in_background
        )
        return {**result, **told}
