#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer_info
short_description: Describe the peers of a node, wait for links, ping them
description:
  - Returns every peer of a node, dialled or connected, with the state of its links.
  - Can wait until given peers are connected, and ping them over the link.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.info
  - peersys.pki._connection
options:
  peers:
    description:
      - Peers to describe, wait for and ping, as node names or identities.
      - All peers that the node knows when not given.
    type: list
    elements: str
  wait_for:
    description: V(up) waits until each of the O(peers) has at least one link, and fails naming those without.
    type: str
    choices: [nothing, up]
    default: nothing
  wait_seconds:
    description: How long to wait for the condition in O(wait_for).
    type: float
    default: 30.0
  ping:
    description: Whether to ping each of the O(peers) on each of its links. A failed ping fails the module.
    type: bool
    default: false
seealso:
  - module: peersys.pki.peer_connector
  - module: peersys.pki.node_info
"""

EXAMPLES = r"""
- name: Wait for the link to the CA's node and ping it
  peersys.pki.peer_info:
    peers: [ca1]
    wait_for: up
    ping: true
"""

RETURN = r"""
peers:
  description: The peers.
  returned: always
  type: list
  elements: dict
  contains:
    peer:
      description: Identity of the peer.
      returned: always
      type: str
      sample: spiffe://pki.example.org/node/ca1
    direction:
      description: Whether this node dialled (V(out)) or listened (V(in)).
      returned: always
      type: str
      sample: in
    state:
      description: One of V(up), V(connecting), V(down), V(disabled).
      returned: always
      type: str
      sample: up
    connections:
      description: Number of standing links.
      returned: always
      type: int
      sample: 1
    roles:
      description: Roles that the peer holds here.
      returned: always
      type: list
      elements: str
    last_error:
      description: Why the last try failed, None if it didn't.
      returned: always
      type: str
pings:
  description: Round-trip times in milliseconds on each link, by peer.
  returned: when O(ping=true)
  type: dict
  sample: {ca1: [0.8]}
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import CONNECTION, ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._links import (
    node_name,
    ping_each,
    selected,
    without_link,
)
from ansible_collections.peersys.pki.plugins.module_utils._object_module import finish
from ansible_collections.peersys.pki.plugins.module_utils._waiting import wait_until


def main() -> None:
    """Run the module."""
    options = ArgumentSpec(
        {
            "peers": {"type": "list", "elements": "str"},
            "wait_for": {"type": "str", "choices": ["nothing", "up"], "default": "nothing"},
            "wait_seconds": {"type": "float", "default": 30.0},
            "ping": {"type": "bool", "default": False},
        }
    )
    module = CONNECTION.merge(options).create_module()
    finish(module, lambda client: describe(client, module.params))


def describe(client: AdminClient, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the peers that ``params`` select, after waiting and pinging as they say."""
    here = node_name(client.get("health")["node"])

    def ask() -> list[dict[str, t.Any]]:
        return selected(client.get("peers", about="peers"), params["peers"])

    def missing(found: list[dict[str, t.Any]]) -> str:
        lost = without_link(found, params["peers"]) if params["wait_for"] == "up" else ""
        return f"{here} has {lost}" if lost else ""

    found = wait_until(ask, missing, params["wait_seconds"])
    result: dict[str, t.Any] = {"changed": False, "peers": found}
    if params["ping"]:
        names = params["peers"] or sorted({node_name(peer["peer"]) for peer in found})
        result["pings"] = ping_each(client, names, here=here)
    return result


if __name__ == "__main__":
    main()
