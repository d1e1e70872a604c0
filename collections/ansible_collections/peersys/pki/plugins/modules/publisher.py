#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: publisher
short_description: Manage a publisher of a node
description:
  - A publisher is the standing order that what some CAs record goes to a VA (or, for a Management CA's CRLs, to every peer).
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.publisher
seealso:
  - module: peersys.pki.signer
  - module: peersys.pki.peer_connector
"""

EXAMPLES = r"""
- name: Publish to a VA
  peersys.pki.publisher:
    name: va1
    peer: spiffe://pki.example.org/node/va1
    authorities: [root, issuing]
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
      sample: {name: va1, authorities: [root, issuing]}
    state:
      description: The position that the receiver has committed, and its lag.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import PUBLISHER


def main() -> None:
    """Run the module."""
    run_object_module("publishers", PUBLISHER)


if __name__ == "__main__":
    main()
