#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Describe a node
description:
  - Returns the objects of a node with their state, and its health.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.info
  - peersys.pki._connection
options:
  wait_for:
    description:
      - V(ok) waits until the node reports itself healthy, and fails with its own reasons if it doesn't in O(wait_seconds).
    type: str
    choices: [nothing, ok]
    default: nothing
  wait_seconds:
    description: How long to wait for the condition in O(wait_for).
    type: float
    default: 30.0
seealso:
  - module: peersys.pki.node
  - module: peersys.pki.peer_info
"""

EXAMPLES = r"""
- name: Wait until the node is healthy
  peersys.pki.node_info:
    wait_for: ok
  register: node
"""

RETURN = r"""
identity:
  description: The node's identity.
  returned: always
  type: str
  sample: spiffe://pki.example.org/node/ra1
version:
  description: Version of the agent.
  returned: always
  type: str
  sample: 0.1.0
objects:
  description: For each kind the list of objects, each with spec and state. Hashes of tokens are hidden.
  returned: always
  type: dict
status:
  description: Health with its reasons, and the state of peers, publishers, signers and CAs.
  returned: always
  type: dict
  sample: {health: ok, reasons: []}
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import CONNECTION, ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._object_module import finish, shown
from ansible_collections.peersys.pki.plugins.module_utils._waiting import wait_until


def main() -> None:
    """Run the module."""
    options = ArgumentSpec(
        {
            "wait_for": {"type": "str", "choices": ["nothing", "ok"], "default": "nothing"},
            "wait_seconds": {"type": "float", "default": 30.0},
        }
    )
    module = CONNECTION.merge(options).create_module()

    def act(client: AdminClient) -> dict[str, t.Any]:
        def ask() -> dict[str, t.Any]:
            status: dict[str, t.Any] = client.get("status")
            return status

        if module.params["wait_for"] == "ok":
            status = wait_until(ask, unhealthy, module.params["wait_seconds"])
        else:
            status = ask()
        node = client.get("node")
        described = {name: node.get(name) for name in ("identity", "version")}
        objects = {
            kind: [{**one, "spec": shown(one["spec"])} for one in found]
            for kind, found in node["objects"].items()
        }
        return {"changed": False, "status": status, "objects": objects, **described}

    finish(module, act)


def unhealthy(status: t.Mapping[str, t.Any]) -> str:
    """Return why the node isn't healthy, nothing when it is."""
    if status["health"] == "ok":
        return ""
    reasons = "; ".join(status.get("reasons", [])) or "the agent gives no reason"
    return f"the node is {status['health']}: {reasons}"


if __name__ == "__main__":
    main()
