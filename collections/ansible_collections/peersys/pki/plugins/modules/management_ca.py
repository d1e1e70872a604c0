#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: management_ca
short_description: Manage the Management CA
description:
  - The Management CA is what both ends of every peer link trust. It only issues authenticators, and only on request from its own host.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.management_ca
seealso:
  - module: peersys.pki.management_certificate
  - module: peersys.pki.authenticator
"""

EXAMPLES = r"""
- name: Create the Management CA
  peersys.pki.management_ca:
    name: management
    subject: CN=Example Management CA,O=Example
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
      sample: {name: management, kind: management}
    state:
      description: The CA certificate, its end and the number of the last CRL.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import MANAGEMENT_CA


def main() -> None:
    """Run the module."""
    run_object_module("certification_authorities", MANAGEMENT_CA, fixed={"kind": "management"})


if __name__ == "__main__":
    main()
