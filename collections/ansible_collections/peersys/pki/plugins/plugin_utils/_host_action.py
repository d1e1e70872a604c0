# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What the action plugins of hosts share: a module call whose failure to reach the host is said well."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

_FULL = "No space left on device"


class HostAction(ActionBase):
    """Runs a module on the host, any number of times."""

    def run_module(
        self,
        name: str,
        arguments: t.Mapping[str, t.Any],
        task_vars: t.Mapping[str, t.Any],
        *,
        in_background: bool = False,
    ) -> dict[str, t.Any]:
        """Run a module and return its result.

        Raises AnsibleConnectionFailure and AnsibleActionFail with cause and remedy.
        """
        host, address = self._host(task_vars)
        try:
            result: dict[str, t.Any] = self._execute_module(
                module_name=name,
                module_args=dict(arguments),
                task_vars=task_vars,
                wrap_async=in_background,
            )
        except AnsibleConnectionFailure as error:
            if _FULL in str(error):
                raise AnsibleActionFail(_full(host)) from error
            raise AnsibleConnectionFailure(
                f"{host} can't be reached at {address}: {_first_line(error)}. Remedy: see that it "
                "runs, that its address in the inventory is right, and that its SSH port, host key "
                "and your login key are in order, then run the playbook again"
            ) from error
        except AnsibleError as error:
            raise self._explained(host, error) from error
        if _FULL in str(result.get("module_stderr", "")) + str(result.get("module_stdout", "")):
            result["msg"] = _full(host)
        return result

    def bring_file(self, path: str, task_vars: t.Mapping[str, t.Any]) -> str:
        """Copy a file of the controller into a temporary directory of the host; return its path.

        Ansible removes the directory when the action is over.
        """
        host, _address = self._host(task_vars)
        try:
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote: str = self._connection._shell.join_path(
                self._connection._shell.tmpdir, "archive"
            )
            self._transfer_file(path, remote)  # type: ignore[no-untyped-call]  # Ansible's own
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"{host}: the agent's archive can't be brought to it: {_first_line(error)}. Remedy: "
                "see that the login user's home directory there has 100 MB free, then run the "
                "playbook again"
            ) from error
        return remote

    def _host(self, task_vars: t.Mapping[str, t.Any]) -> tuple[str, str]:
        """Return name and address of the host that the task goes to, which may be delegated."""
        name = self._task.delegate_to or task_vars.get("inventory_hostname", "the host")
        if self._task.delegate_to:
            task_vars = task_vars.get("ansible_delegated_vars", {}).get(name, {})
        return name, task_vars.get("ansible_host", name)

    def _explained(self, host: str, error: AnsibleError) -> AnsibleError:
        text = _first_line(error)
        if "password" in text and text.startswith(("Incorrect", "Missing")):
            return AnsibleActionFail(
                f"{host}: {text}. Remedy: give the login user's password for it with "
                "--ask-become-pass or ansible_become_password, then run the playbook again"
            )
        return AnsibleActionFail(_full(host)) if _FULL in str(error) else error


def _full(host: str) -> str:
    return (
        f"{host}: no space is left on the host's disk, not even for Ansible's own files. Remedy: free "
        "some space there, then run the playbook again"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
