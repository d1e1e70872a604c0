# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Confirm a changed firewall by coming back through it with a new connection."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible_collections.peersys.pki.plugins.plugin_utils._host_action import HostAction

_MODULE = "peersys.pki.firewall"


class ActionModule(HostAction):
    """The controller's part of M(peersys.pki.firewall)."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, and again over a new connection when it has put a table on trial."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        result = self.run_module(_MODULE, arguments, variables)
        if result.get("failed") or not result.pop("on_trial", False):
            return result
        self._connection.reset()
        try:
            confirmed = self.run_module(_MODULE, {**arguments, "confirm": True}, variables)
        except AnsibleConnectionFailure as error:
            raise AnsibleActionFail(
                f"{variables.get('inventory_hostname')}: the new firewall would shut the controller "
                f"out, so the host goes back to the one before it within "
                f"{arguments.get('trial_seconds', 60)} s. Remedy: list the port of its SSH server in "
                "firewall_ssh_ports, then run the playbook again"
            ) from error
        if confirmed.get("failed"):
            return confirmed
        return result
