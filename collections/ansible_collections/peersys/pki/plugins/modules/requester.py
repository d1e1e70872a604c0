#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: requester
short_description: Manage a requester of an RA
description:
  - A requester is a person or machine that may ask at this RA, known by an API token or a TLS client certificate.
  - The agent only ever learns the token's hash.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.requester
seealso:
  - module: peersys.pki.peer_role
"""

EXAMPLES = r"""
- name: Let a deployment system enrol TLS server certificates
  peersys.pki.requester:
    name: deployment
    token_sha256: "{{ deployment_token | hash('sha256') }}"
    rules:
      - resource: /ra/enroll
      - resource: /ca/issuing
      - resource: /profile/tls_server
      - resource: /protocol/rest
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
      sample: {name: deployment}
    state:
      description: Empty, a requester has no state.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import REQUESTER


def main() -> None:
    """Run the module."""
    run_object_module("requesters", REQUESTER)


if __name__ == "__main__":
    main()
