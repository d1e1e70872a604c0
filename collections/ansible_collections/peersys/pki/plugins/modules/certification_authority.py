#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certification_authority
short_description: Manage a CA of a node
description:
  - The node generates the key, and signs the CA certificate or has it signed by another CA of the same node.
  - A CA is never made a second time. Changing what its certificate says is refused by the agent.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.certification_authority
seealso:
  - module: peersys.pki.certificate_profile
  - module: peersys.pki.management_ca
  - module: peersys.pki.publisher
"""

EXAMPLES = r"""
- name: Create an issuing CA below a root
  peersys.pki.certification_authority:
    name: issuing
    kind: issuing
    issuer: root
    subject: CN=Example Issuing CA,O=Example
    profiles: [tls_server]
    ocsp_urls: ["http://va1.example.org/ocsp"]
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
      sample: {name: issuing, kind: issuing, issuer: root}
    state:
      description: The CA certificate, its chain, its end and the number of the last CRL.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    CERTIFICATION_AUTHORITY,
)


def main() -> None:
    """Run the module."""
    run_object_module("certification_authorities", CERTIFICATION_AUTHORITY)


if __name__ == "__main__":
    main()
