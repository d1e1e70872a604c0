#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Close a host to all but what its node needs
description:
  - Keeps the table C(inet peersys) of nftables. No other table is read or changed, and none can open what this one drops.
  - Inbound, only established connections, loopback, ICMP, DHCPv6 answers, SSH and O(rules) are let in. Nothing outbound is hindered.
  - The table is replaced in one transaction, and only when the kernel holds another one. It comes back at each boot, before the network.
  - The host of a node that was taken over can be V(isolated), after which V(present) is refused until it is V(absent) once.
  - A changed table is on trial until the controller has reached the host through it with a new connection. Otherwise the host goes back to the table
    before it after O(trial_seconds), and the task fails.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  state:
    description:
      - Whether the table is there.
      - V(isolated) leaves nothing but SSH from O(controllers). Connections that are established end, and so does what the host itself sends.
    type: str
    choices: [present, absent, isolated]
    default: present
  rules:
    description: What is let in besides. None for a CA.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: A TCP port.
        type: int
        required: true
      from:
        description: Addresses and networks that may reach it. Nobody may when none is listed.
        type: list
        elements: str
        required: true
      comment:
        description: Shown in the table.
        type: str
        default: ""
  ssh_ports:
    description: Ports of the SSH server. When none is listed, those that it is set up for.
    type: list
    elements: int
    default: []
  controllers:
    description: Addresses that may still come by SSH to a host that is V(isolated). When none is listed, the one from which this task comes.
    type: list
    elements: str
    default: []
  trial_seconds:
    description: How long a changed table waits to be confirmed.
    type: int
    default: 60
  owner:
    description: The node that the host must belong to, if it belongs to any (see M(peersys.pki.node_service)).
    type: dict
    suboptions:
      name:
        description: The node's name.
        type: str
        required: true
      trust_domain:
        description: The topology's trust domain.
        type: str
        required: true
      config_directory:
        description: Where the node's encrypted credentials are.
        type: path
        default: /etc/peersys
      state_directory:
        description: Where the node keeps its keys.
        type: path
        default: /var/lib/peersys
  key_secrets:
    description:
      - What the keys of O(owner) are encrypted with, C(passphrase) and C(shared_passphrase), as the node is to be started with.
      - Where they are others than it runs with, O(state=present) is refused before anything is changed.
    type: dict
  confirm:
    description: Set by the action plugin when it has come through the new table.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let the CA reach an RA, and clients too
  peersys.pki.firewall:
    rules:
      - port: 7443
        from: [192.0.2.11]
        comment: peer links from ca1
      - port: 8443
        from: [203.0.113.0/24]
        comment: enrolment

- name: Shut a host off that was taken over
  peersys.pki.firewall:
    state: isolated
"""

RETURN = r"""
ssh_ports:
  description: The ports that stay open for SSH.
  returned: O(state=present) or O(state=isolated)
  type: list
  elements: int
  sample: [22]
controllers:
  description: Who may still come by SSH.
  returned: O(state=isolated)
  type: list
  elements: str
  sample: [203.0.113.1]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._claim import CLAIM_PATH, Claim
from ansible_collections.peersys.pki.plugins.module_utils._credentials import CredentialStore
from ansible_collections.peersys.pki.plugins.module_utils._firewall import (
    Firewall,
    controller_address,
    is_isolated,
    ssh_ports_found,
)
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError, explain
from ansible_collections.peersys.pki.plugins.module_utils._key_secrets import (
    NodePlace,
    check_key_secrets,
)
from ansible_collections.peersys.pki.plugins.module_utils._ruleset import (
    Rule,
    RuleError,
    isolating_ruleset,
    ruleset,
)


def main() -> None:
    """Run the module."""
    rule = {
        "port": {"type": "int", "required": True},
        "from": {"type": "list", "elements": "str", "required": True},
        "comment": {"type": "str", "default": ""},
    }
    owner = {
        "name": {"type": "str", "required": True},
        "trust_domain": {"type": "str", "required": True},
        "config_directory": {"type": "path", "default": "/etc/peersys"},
        "state_directory": {"type": "path", "default": "/var/lib/peersys"},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["present", "absent", "isolated"],
                "default": "present",
            },
            "rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "ssh_ports": {"type": "list", "elements": "int", "default": []},
            "controllers": {"type": "list", "elements": "str", "default": []},
            "trial_seconds": {"type": "int", "default": 60},
            "owner": {"type": "dict", "options": owner},
            "key_secrets": {"type": "dict", "no_log": True},
            "confirm": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    act = {"present": present, "absent": absent, "isolated": isolated}[module.params["state"]]
    try:
        if os.geteuid() != 0:
            raise HostError("this needs root", "set ansible_become for this host")
        if module.params["owner"]:
            check_owner(NodePlace(**module.params["owner"]), module.params)
        module.exit_json(**act(module.params, dry_run=module.check_mode))
    except RuleError as error:
        module.fail_json(msg=f"firewall_rules: {error}")
    except HostError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(explain(error, "/etc")))


def check_owner(owner: NodePlace, params: t.Mapping[str, t.Any]) -> None:
    """Raise HostError when the host isn't its node's, or the node wouldn't start again."""
    Claim(CLAIM_PATH, owner.trust_domain, owner.name).check()
    if params["state"] == "present" and params["key_secrets"] is not None:
        check_key_secrets(owner, CredentialStore(owner.credentials), params["key_secrets"])


def present(params: t.Mapping[str, t.Any], *, dry_run: bool) -> dict[str, t.Any]:
    """Close the host to all but what its node needs, unless it is isolated."""
    if is_isolated():
        raise HostError(
            "this host was taken over, and is isolated",
            "take its node from the topology; or make the host anew, then open it with "
            "playbooks/isolate.yml --extra-vars isolation_state=absent",
        )
    ports = params["ssh_ports"] or ssh_ports_found()
    wanted = ruleset(map(Rule.parse, params["rules"]), ports)
    return {**load(wanted, params, dry_run=dry_run), "ssh_ports": ports}


def isolated(params: t.Mapping[str, t.Any], *, dry_run: bool) -> dict[str, t.Any]:
    """Leave nothing but SSH from the controller."""
    ports = params["ssh_ports"] or ssh_ports_found()
    controllers = params["controllers"] or [controller_address()]
    wanted = isolating_ruleset(controllers, ports)
    told = {"ssh_ports": ports, "controllers": controllers}
    return {**load(wanted, params, dry_run=dry_run), **told}


def load(wanted: str, params: t.Mapping[str, t.Any], *, dry_run: bool) -> dict[str, t.Any]:
    """Load the table if the kernel holds another one. The next call confirms it.

    So it does where an earlier run loaded it and was cut off: only a new connection proves that the
    controller gets in.
    """
    firewall = Firewall(wanted)
    difference = firewall.difference()
    persistent = firewall.is_persistent()
    if params["confirm"] and difference is not None:
        raise HostError("the trial of the new table ended too early", "raise trial_seconds")
    is_new = difference is not None
    trial = not dry_run and (is_new or (firewall.is_on_trial() and not params["confirm"]))
    if trial and is_new:
        firewall.try_out(params["trial_seconds"])
    elif not (trial or dry_run) and (params["confirm"] or not persistent):
        firewall.keep()
    return {
        "changed": is_new or not persistent,
        "diff": [difference] if difference else [],
        "on_trial": trial,
    }


def absent(params: t.Mapping[str, t.Any], *, dry_run: bool) -> dict[str, t.Any]:
    """Remove the table and what brings it at boot."""
    firewall = Firewall("")
    exists = firewall.exists()
    if exists and not dry_run:
        firewall.remove()
    return {"changed": exists, "diff": []}


if __name__ == "__main__":
    main()
