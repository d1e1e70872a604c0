#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer_issuer
short_description: Manage an issuer of another trust domain on a node
description:
  - A peer issuer is a CA that vouches for the nodes of one trust domain beside the node's own Management CA, such as a tenant's.
  - It comes into force at once, for links that are up too. What it vouches for still needs a role to be linked or to ask.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.peer_issuer
seealso:
  - module: peersys.pki.peer_role
  - module: peersys.pki.management_ca
"""

EXAMPLES = r"""
- name: Let the Management CA of the tenant acme vouch for its own nodes
  peersys.pki.peer_issuer:
    name: acme
    trust_domain: acme.example
    trust_anchors:
      - "{{ lookup('ansible.builtin.file', 'acme-management-ca.pem') }}"
    crls:
      - "{{ lookup('ansible.builtin.file', 'acme-management-ca.crl.pem') }}"
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
      sample: {name: acme, trust_domain: acme.example}
    state:
      description: What the node read from it.
      returned: always
      type: dict
      contains:
        trust_anchors:
          description: Subject, SHA-256 fingerprint and end (seconds since the epoch) of each trust anchor.
          returned: always
          type: list
          elements: dict
        crls:
          description: Issuer, number, next update (seconds since the epoch) and count of revoked certificates of each CRL.
          returned: always
          type: list
          elements: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import PEER_ISSUER


def main() -> None:
    """Run the module."""
    run_object_module("peer_issuers", PEER_ISSUER)


if __name__ == "__main__":
    main()
