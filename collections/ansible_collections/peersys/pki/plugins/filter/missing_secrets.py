# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_secrets
short_description: Say which secrets of hosts are not defined
description:
  - Compares what each host needs, as the inventory plugin P(peersys.pki.topology#inventory) says in C(peersys_secrets),
    with the variables that the host has.
  - A host without C(peersys_secrets) needs C(node_passphrase).
  - Reads no secret, only whether it is there.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
positional: _input
options:
  _input:
    description: The variables of each host.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the secrets
  ansible.builtin.assert:
    that: groups["peersys_hosts"] | map("extract", hostvars) | peersys.pki.missing_secrets | length == 0
"""

RETURN = r"""
_value:
  description: Each file that would hold missing secrets, relative to the inventory.
  type: list
  elements: dict
  contains:
    name:
      description: The file.
      type: str
      sample: host_vars/ca1/vault.yml
    variables:
      description: Names of the variables that are missing.
      type: list
      elements: str
      sample: [node_passphrase]
    declared_at:
      description: Where the hosts that need them are declared.
      type: list
      elements: str
"""

import typing as t

Variables = t.Mapping[str, t.Any]


def missing_secrets(hosts: t.Iterable[Variables]) -> list[dict[str, t.Any]]:
    """Return what is missing, by file; see DOCUMENTATION."""
    found: dict[str, dict[str, t.Any]] = {}
    for host in hosts:
        for entry in _needed(host):
            missing = [name for name in entry["variables"] if name not in host]
            if not missing:
                continue
            empty: dict[str, t.Any] = {"name": entry["file"], "variables": [], "declared_at": []}
            file = found.setdefault(str(entry["file"]), empty)
            file["variables"] += [name for name in missing if name not in file["variables"]]
            file["declared_at"].append(host.get("peersys_declared_at", host["inventory_hostname"]))
    return list(found.values())


def _needed(host: Variables) -> list[dict[str, t.Any]]:
    if "peersys_secrets" in host:
        needed: list[dict[str, t.Any]] = host["peersys_secrets"]
        return needed
    file = f"host_vars/{host['inventory_hostname']}/vault.yml"
    return [{"file": file, "variables": ["node_passphrase"]}]


class FilterModule:
    """Filters of secrets."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"missing_secrets": missing_secrets}
