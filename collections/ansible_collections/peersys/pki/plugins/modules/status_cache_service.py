#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status_cache_service
short_description: Run an nginx in front of VAs as a systemd service
description:
  - Installs nginx if it is missing, and runs one of its own as a service, in one step.
  - Before anything is changed, its ports are checked, and nginx is asked whether it takes the configuration.
  - It is reloaded where that does, and the task ends when it listens.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
    details:
      - Where nginx isn't installed yet, it can't be asked about the configuration.
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  state:
    description: Whether the cache is there. V(absent) leaves nginx itself installed.
    type: str
    choices: [present, absent]
    default: present
  unit:
    description: Name of the systemd unit.
    type: str
    default: peersys-status-cache.service
  unit_content:
    description: The whole unit. Required when O(state=present).
    type: str
  config_directory:
    description: Directory of C(nginx.conf).
    type: path
    default: /etc/peersys-status-cache
  config_content:
    description: The whole C(nginx.conf). Required when O(state=present).
    type: str
  listen:
    description: Where O(config_content) says that it listens, C(port) or C(address:port).
    type: list
    elements: str
    default: []
  cache_directory:
    description: Where it keeps answers.
    type: path
    default: /var/cache/peersys-status-cache
  runtime_directory:
    description: Where it keeps what is on its way.
    type: path
    default: /run/peersys-status-cache
  start_timeout_seconds:
    description: How long it may take until it listens.
    type: float
    default: 10.0
"""

EXAMPLES = r"""
- name: Run the cache
  peersys.pki.status_cache_service:
    listen: ["80"]
    unit_content: "{{ lookup('ansible.builtin.template', 'peersys-status-cache.service.j2') }}"
    config_content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"

- name: Remove it
  peersys.pki.status_cache_service:
    state: absent
"""

RETURN = r"""
steps:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [install nginx, configure, restart]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError, explain
from ansible_collections.peersys.pki.plugins.module_utils._status_cache import StatusCache


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[["state", "present", ["unit_content", "config_content", "listen"]]],
        supports_check_mode=True,
    )
    # Whatever the login user's is: the service's user must be able to read its files.
    os.umask(0o022)
    try:
        cache = StatusCache(module.params, dry_run=module.check_mode)
        result = cache.start() if module.params["state"] == "present" else cache.remove()
    except HostError as error:
        module.fail_json(msg=str(error))
    except ValueError:
        module.fail_json(msg=f"status_cache_listen: {module.params['listen']} has no port in it")
    except OSError as error:
        module.fail_json(msg=str(explain(error, module.params["config_directory"])))
    module.exit_json(**result)


def argument_spec() -> dict[str, t.Any]:
    """Return the options."""
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "unit": {"type": "str", "default": "peersys-status-cache.service"},
        "unit_content": {"type": "str"},
        "config_directory": {"type": "path", "default": "/etc/peersys-status-cache"},
        "config_content": {"type": "str"},
        "listen": {"type": "list", "elements": "str", "default": []},
        "cache_directory": {"type": "path", "default": "/var/cache/peersys-status-cache"},
        "runtime_directory": {"type": "path", "default": "/run/peersys-status-cache"},
        "start_timeout_seconds": {"type": "float", "default": 10.0},
    }


if __name__ == "__main__":
    main()
