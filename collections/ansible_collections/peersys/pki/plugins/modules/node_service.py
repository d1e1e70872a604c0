#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_service
short_description: Install, configure and run a node agent as a systemd service
description:
  - Makes a host with systemd run a node agent, in one step. A task costs the same whatever it does.
  - The host needs Python 3.11 or newer and no package index. The agent's release is made on the controller from O(source), when it is needed, and
    is brought to a host that doesn't have it.
  - Versions lie side by side. A link says which one counts, and is moved when a version is whole. The one before it is kept.
  - Before anything is changed, the host's Python, clock and addresses are checked, and that no other topology has claimed the host.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
    details:
      - The release isn't made. Where none is known yet, its version is foreseen as V(not made yet).
  diff_mode:
    support: full
    details:
      - The content of O(credentials) is never shown.
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  state:
    description:
      - V(started) installs, configures and runs the agent.
      - V(stopped) ends it, also after a boot, and keeps everything.
      - V(absent) removes service, versions, credentials, user, and O(directories) with everything that the agent stored.
    type: str
    choices: [started, stopped, absent]
    default: started
  name:
    description: The node's name.
    type: str
    required: true
  trust_domain:
    description: The topology's trust domain. Together with O(name) it claims the host.
    type: str
    required: true
  unit:
    description: Name of the systemd unit.
    type: str
    default: peersys.service
  unit_content:
    description: The whole unit. Required when O(state=started).
    type: str
  config_directory:
    description: Directory of the start-up file C(node.yaml), and of the directory C(credentials).
    type: path
    default: /etc/peersys
  config_content:
    description: The start-up file C(node.yaml). Required when O(state=started).
    type: str
  credentials:
    description: Secrets that are stored encrypted for this host and unit. Others that are stored there are removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the credential.
        type: str
        required: true
      content:
        description: The secret.
        type: str
        required: true
  user:
    description: The system user of the service.
    type: str
    default: peersys
  admin_group:
    description: A group that must be there. Empty for none.
    type: str
    default: ""
  directories:
    description: Directories of the service's data, removed when O(state=absent). The first is the user's home.
    type: list
    elements: path
    default: [/var/lib/peersys, /run/peersys]
  listen_hosts:
    description: Addresses that the agent listens on. Each must be one of the host's.
    type: list
    elements: str
    default: []
  install_directory:
    description: Where versions lie. Nothing else may be there.
    type: path
    default: /opt/peersys
  python:
    description: The host's Python for the agent.
    type: str
    default: python3
  clock_tolerance_seconds:
    description: By how much the clocks of host and controller may differ.
    type: float
    default: 300.0
  source:
    description: Directory on the controller with the agent's source. Required when O(state=started).
    type: path
  wheelhouse:
    description: Directory on the controller where wheels and releases are kept. Required when O(state=started).
    type: path
  extras:
    description: Optional parts of the agent to bring along, V(pkcs11) for keys in hardware.
    type: list
    elements: str
    default: []
  release:
    description: Set by the action plugin. The known releases by target, the controller's time, and where the archive was brought to.
    type: dict
    default: {}
seealso:
  - module: peersys.pki.node_process
"""

EXAMPLES = r"""
- name: Run a node
  peersys.pki.node_service:
    name: ca1
    trust_domain: pki.example.org
    source: /srv/peersys
    wheelhouse: /srv/peersys/.wheelhouse
    unit_content: "{{ lookup('ansible.builtin.template', 'peersys.service.j2') }}"
    config_content: "{{ lookup('ansible.builtin.template', 'node.yaml.j2') }}"
    credentials:
      - name: passphrase
        content: "{{ node_passphrase }}"

- name: Remove it with everything that it stored
  peersys.pki.node_service:
    name: ca1
    trust_domain: pki.example.org
    state: absent
"""

RETURN = r"""
version:
  description: The version that counts after this, None when none does.
  returned: always
  type: str
  sample: 0.1.0-b0fc2bbcffe2
steps:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [install, configure, restart]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError, explain
from ansible_collections.peersys.pki.plugins.module_utils._node_service import NodeService


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[
            ["state", "started", ["unit_content", "config_content", "source", "wheelhouse"]]
        ],
        supports_check_mode=True,
    )
    # Whatever the login user's is: the agent's user must be able to read what is installed.
    os.umask(0o022)
    service = NodeService(module.params, dry_run=module.check_mode)
    act = {"started": service.start, "stopped": service.stop, "absent": service.remove}
    try:
        result = act[module.params["state"]]()
    except HostError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(explain(error, module.params["install_directory"])))
    for warning in service.warnings:
        module.warn(warning)
    module.exit_json(**result)


def argument_spec() -> dict[str, t.Any]:
    """Return the options."""
    credential = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
    }
    return {
        "state": {
            "type": "str",
            "choices": ["started", "stopped", "absent"],
            "default": "started",
        },
        "name": {"type": "str", "required": True},
        "trust_domain": {"type": "str", "required": True},
        "unit": {"type": "str", "default": "peersys.service"},
        "unit_content": {"type": "str"},
        "config_directory": {"type": "path", "default": "/etc/peersys"},
        "config_content": {"type": "str"},
        "credentials": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": credential,
        },
        "user": {"type": "str", "default": "peersys"},
        "admin_group": {"type": "str", "default": ""},
        "directories": {
            "type": "list",
            "elements": "path",
            "default": ["/var/lib/peersys", "/run/peersys"],
        },
        "listen_hosts": {"type": "list", "elements": "str", "default": []},
        "install_directory": {"type": "path", "default": "/opt/peersys"},
        "python": {"type": "str", "default": "python3"},
        "clock_tolerance_seconds": {"type": "float", "default": 300.0},
        "source": {"type": "path"},
        "wheelhouse": {"type": "path"},
        "extras": {"type": "list", "elements": "str", "default": []},
        "release": {"type": "dict", "default": {}},
    }


if __name__ == "__main__":
    main()
