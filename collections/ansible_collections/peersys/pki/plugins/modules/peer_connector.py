#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer_connector
short_description: Manage an outgoing peer link of a node
description:
  - A peer connector dials another node and keeps a pool of links to it. Requests may then start from both ends.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.peer_connector
seealso:
  - module: peersys.pki.authenticator
  - module: peersys.pki.peer_role
  - module: peersys.pki.peer_info
"""

EXAMPLES = r"""
- name: Dial an RA from the CA's node
  peersys.pki.peer_connector:
    name: ra1
    address: ra1.example.org:7443
    peer: spiffe://pki.example.org/node/ra1

- name: Close the links to an RA and dial no more
  peersys.pki.peer_connector:
    name: ra1
    address: ra1.example.org:7443
    peer: spiffe://pki.example.org/node/ra1
    enabled: false
"""

RETURN = r"""
object:
  description: The object as it stands now. In check mode its state is empty.
  returned: when the object exists
  type: dict
  contains:
    spec:
      description: What was asked for, with every default filled in.
      returned: always
      type: dict
      sample: {name: ra1, address: 'ra1.example.org:7443'}
    state:
      description: Whether the links stand, and how many.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import PEER_CONNECTOR


def main() -> None:
    """Run the module."""
    run_object_module("peer_connectors", PEER_CONNECTOR)


if __name__ == "__main__":
    main()
