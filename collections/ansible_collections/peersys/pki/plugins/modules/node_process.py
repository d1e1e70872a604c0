#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_process
short_description: Run a node agent as a plain background process
description:
  - Starts and stops a node agent on a host without a service manager, or without the right to use it. It is how local topologies run.
  - The process is detached, keeps a PID file, and appends what it prints to a log file.
  - A running agent is restarted when its command or the content of one of its start-up files has changed.
  - On hosts with systemd use the role P(peersys.pki.node#role), which installs a unit.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  state:
    description:
      - V(started) starts the agent if it doesn't run as asked.
      - V(stopped) ends it with SIGTERM, and with SIGKILL after O(stop_timeout_seconds).
    type: str
    choices: [started, stopped]
    default: started
  command:
    description: The agent's program and arguments. Required when O(state=started). No shell is involved.
    type: list
    elements: str
  pid_file:
    description: Where the process number is kept.
    type: path
    required: true
  log_file:
    description: Where output is appended. Required when O(state=started).
    type: path
  start_files:
    description: Files that the agent reads when it starts. A change in one of them restarts it.
    type: list
    elements: path
    default: []
  directories:
    description: Directories that are made, with mode 0700, before the agent starts.
    type: list
    elements: path
    default: []
  ready_socket:
    description: A Unix socket. The agent counts as started when it accepts connections there.
    type: path
  start_timeout_seconds:
    description: How long the agent may take until it listens on O(ready_socket).
    type: float
    default: 30.0
  stop_timeout_seconds:
    description: How long the agent may take to close its links and end.
    type: float
    default: 20.0
seealso:
  - module: peersys.pki.node_info
"""

EXAMPLES = r"""
- name: Run a node
  peersys.pki.node_process:
    command: [/opt/peersys/bin/peersys, run, --config, /srv/ca1/node.yaml]
    pid_file: /srv/ca1/node.pid
    log_file: /srv/ca1/node.log
    start_files: [/srv/ca1/node.yaml]
    directories: [/srv/ca1/state, /srv/ca1/run]
    ready_socket: /srv/ca1/run/admin.sock

- name: Stop it
  peersys.pki.node_process:
    state: stopped
    pid_file: /srv/ca1/node.pid
"""

RETURN = r"""
pid:
  description: Number of the running process, None when it doesn't run.
  returned: always
  type: int
  sample: 4711
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._process import (
    AgentProcess,
    ProcessError,
    fingerprint_of,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "command": {"type": "list", "elements": "str"},
            "pid_file": {"type": "path", "required": True},
            "log_file": {"type": "path"},
            "start_files": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
            "ready_socket": {"type": "path"},
            "start_timeout_seconds": {"type": "float", "default": 30.0},
            "stop_timeout_seconds": {"type": "float", "default": 20.0},
        },
        required_if=[["state", "started", ["command", "log_file"]]],
        supports_check_mode=True,
    )
    process = AgentProcess(module.params["pid_file"], module.params["stop_timeout_seconds"])
    act = started if module.params["state"] == "started" else stopped
    try:
        module.exit_json(**act(process, module.params, dry_run=module.check_mode))
    except (ProcessError, OSError) as error:
        module.fail_json(msg=f"{module.params['pid_file']}: {error}")


def started(
    process: AgentProcess, params: t.Mapping[str, t.Any], *, dry_run: bool
) -> dict[str, t.Any]:
    """Start the agent, or restart it when it runs with other start-up files."""
    fingerprint = fingerprint_of(params["command"], params["start_files"])
    pid = process.pid()
    if pid is not None and process.fingerprint() == fingerprint:
        return {"changed": False, "pid": pid}
    if not dry_run:
        process.stop()
        pid = process.start(
            params["command"],
            log_file=params["log_file"],
            directories=params["directories"],
            fingerprint=fingerprint,
            ready_socket=params["ready_socket"],
            start_timeout_seconds=params["start_timeout_seconds"],
        )
    return {"changed": True, "pid": pid}


def stopped(
    process: AgentProcess, params: t.Mapping[str, t.Any], *, dry_run: bool
) -> dict[str, t.Any]:
    """End the agent if it runs."""
    pid = process.pid()
    if pid is None:
        return {"changed": False, "pid": None}
    if not dry_run:
        process.stop()
    return {"changed": True, "pid": pid if dry_run else None}


if __name__ == "__main__":
    main()
