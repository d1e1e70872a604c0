# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    """How a module reaches the agent. Keep in sync with ``module_utils/_argspec.py``."""

    DOCUMENTATION = r"""
options:
  admin_socket:
    description:
      - The Unix socket of the node agent's admin API on the target.
      - The module must run as root, as the agent's user, or as a member of its admin group.
    type: path
    default: /run/peersys/admin.sock
  timeout_seconds:
    description: How long the agent may take to answer.
    type: float
    default: 30.0
  start_timeout_seconds:
    description:
      - How long to wait for an agent that is just starting. In check mode there is no wait.
    type: float
    default: 15.0
notes:
  - Runs with the target's own Python (3.11 or newer) and its standard library only.
"""

    STATE = r"""
options:
  state:
    description: Whether the object is to exist.
    type: str
    choices: [present, absent]
    default: present
"""
