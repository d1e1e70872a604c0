#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_profile
short_description: Manage a certificate profile of a node
description:
  - A certificate profile says what a certificate may contain. The agent lints a sample before it accepts a profile.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.certificate_profile
seealso:
  - module: peersys.pki.certification_authority
"""

EXAMPLES = r"""
- name: Describe TLS server certificates
  peersys.pki.certificate_profile:
    name: tls_server
    subject:
      - attribute: common_name
    san:
      - kind: dns
        pattern: '([a-z0-9-]+\.)+example\.org'
        minimum: 1
    extended_key_usage: [server_auth]
    validity_days: 30
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
      sample: {name: tls_server, validity_days: 30}
    state:
      description: What the agent made of the profile.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import CERTIFICATE_PROFILE


def main() -> None:
    """Run the module."""
    run_object_module("certificate_profiles", CERTIFICATE_PROFILE)


if __name__ == "__main__":
    main()
