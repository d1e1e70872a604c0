#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_probe
short_description: Prove from a host which ports of others are open and which are closed
description:
  - Tries to connect to every port at once, by TCP, and sends nothing.
  - A port is closed if the connection is refused, or a firewall rejects it, or nothing answers in time.
  - Fails if one isn't as expected, and names this host, the other host and the port.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.info
attributes:
  action_group:
    support: none
    membership: []
options:
  source:
    description: Name of the host that this runs on, for messages.
    type: str
    required: true
  probes:
    description: What to try. The inventory plugin P(peersys.pki.topology#inventory) derives them as C(verification_probes).
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Name of the other host, for messages.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
      purpose:
        description: What the port is for, for messages.
        type: str
        default: port
      expect:
        description: How it must be.
        type: str
        choices: [open, closed]
        required: true
  timeout_seconds:
    description: How long a port may stay silent until it counts as closed. After one second TCP asks again.
    type: float
    default: 2.0
seealso:
  - module: peersys.pki.peer_info
"""

EXAMPLES = r"""
- name: Prove that nobody reaches the CA from here
  peersys.pki.port_probe:
    source: client1
    probes:
      - host: ca1
        address: 192.0.2.11
        port: 7443
        purpose: peer port
        expect: closed
"""

RETURN = r"""
probes:
  description: What was tried, in the order of O(probes).
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: Name of the other host.
      type: str
    port:
      description: The port.
      type: int
    expect:
      description: How it must be.
      type: str
    state:
      description: V(open), or closed as V(refused), V(unreachable), V(silent), or V(unknown) for an address that isn't known.
      type: str
      sample: silent
milliseconds:
  description: How long all of it took.
  returned: success
  type: float
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._probing import probe_ports


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    probe = {
        "host": text,
        "address": text,
        "port": {"type": "int", "required": True},
        "purpose": {"type": "str", "default": "port"},
        "expect": {"type": "str", "choices": ["open", "closed"], "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "source": text,
            "probes": {"type": "list", "elements": "dict", "required": True, "options": probe},
            "timeout_seconds": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    source, probes = module.params["source"], module.params["probes"]
    start = time.perf_counter()
    try:
        targets = [(one["address"], one["port"]) for one in probes]
        states = probe_ports(targets, module.params["timeout_seconds"])
    except OSError as error:
        module.fail_json(msg=f"{source} can't try to connect: {error}")
    tried = [{**one, "state": state} for one, state in zip(probes, states, strict=True)]
    milliseconds = round((time.perf_counter() - start) * 1000, 1)
    wrong = [
        complaint(source, one)
        for one in tried
        if (one["state"] == "open") != (one["expect"] == "open")
    ]
    if wrong:
        module.fail_json(msg="; ".join(wrong))
    module.exit_json(changed=False, probes=tried, milliseconds=milliseconds)


def complaint(source: str, probe: t.Mapping[str, t.Any]) -> str:
    """Return what is wrong with one port."""
    where = f"{probe['purpose']} of {probe['host']} ({probe['address']} port {probe['port']})"
    if probe["expect"] == "closed":
        return f"{source} reaches the {where}, which must be closed to it"
    return f"{source} doesn't reach the {where}: {probe['state']}"


if __name__ == "__main__":
    main()
