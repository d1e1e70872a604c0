#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer_role
short_description: Manage a peer role of a node
description:
  - A peer role says which peers may do what over their links. A change takes effect on the next request.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.peer_role
seealso:
  - module: peersys.pki.peer_connector
  - module: peersys.pki.peer_info
"""

EXAMPLES = r"""
- name: Let an RA enrol from one CA with one profile
  peersys.pki.peer_role:
    name: registration_authorities
    members:
      - spiffe://pki.example.org/node/ra1
    rules:
      - resource: /peer/incoming
      - resource: /ra/enroll
      - resource: /ca/issuing
      - resource: /profile/tls_server
      - resource: /protocol/rest

- name: Let a tenant's RA ask for all that an RA may, but code signing
  peersys.pki.peer_role:
    name: acme
    members:
      - spiffe://acme.example/node/ra1
    template: tenant
    parameters:
      authorities: [acme-*]
      profiles: ['*']
    rules:
      - resource: /profile/code_signing
        effect: deny
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
      sample: {name: registration_authorities, members: ['spiffe://pki.example.org/node/ra1']}
    state:
      description: Empty, a role has no state.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import PEER_ROLE


def main() -> None:
    """Run the module."""
    run_object_module("peer_roles", PEER_ROLE)


if __name__ == "__main__":
    main()
