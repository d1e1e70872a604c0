# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Argument specifications as values that can be merged, and the connection options of every module.

Keep in sync with ``doc_fragments/_attributes.py`` and ``doc_fragments/_connection.py``.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient

Options = dict[str, dict[str, t.Any]]


@dataclasses.dataclass(frozen=True)
class ArgumentSpec:
    """Options and the rules between them; travels as one value.

    ``needed``: what an object can't be without. A module whose ``state`` may be absent can't
    require it always, so it isn't marked in the options themselves.
    """

    options: Options
    required_if: tuple[tuple[str, t.Any, tuple[str, ...]], ...] = ()
    needed: tuple[str, ...] = ()

    def merge(self, other: ArgumentSpec) -> ArgumentSpec:
        """Return both together; an option of ``other`` wins over one of the same name."""
        return ArgumentSpec(
            {**self.options, **other.options},
            self.required_if + other.required_if,
            self.needed + other.needed,
        )

    def of_an_object(self) -> ArgumentSpec:
        """Return the spec of a module with ``state``: what is needed, is so when present."""
        if not self.needed:
            return self
        return dataclasses.replace(self, required_if=(("state", "present", self.needed),))

    def as_suboptions(self) -> Options:
        """Return the options of an object that is listed, and so is to be there."""
        needed = {name: {**self.options[name], "required": True} for name in self.needed}
        return {**self.options, **needed}

    def create_module(self, *, supports_check_mode: bool = True) -> AnsibleModule:
        """Return the AnsibleModule of these options."""
        return AnsibleModule(
            argument_spec=self.options,
            required_if=[list(rule) for rule in self.required_if],
            supports_check_mode=supports_check_mode,
        )


CONNECTION = ArgumentSpec(
    {
        "admin_socket": {"type": "path", "default": "/run/peersys/admin.sock"},
        "timeout_seconds": {"type": "float", "default": 30.0},
        "start_timeout_seconds": {"type": "float", "default": 15.0},
    }
)

STATE = ArgumentSpec(
    {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}
)


def client_of(module: AnsibleModule) -> AdminClient:
    """Return the client that the module's connection options describe.

    A dry run doesn't wait for an agent that may not even be installed yet.
    """
    return AdminClient(
        module.params["admin_socket"],
        timeout_seconds=module.params["timeout_seconds"],
        start_timeout_seconds=0 if module.check_mode else module.params["start_timeout_seconds"],
    )
