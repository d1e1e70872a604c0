#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: signer
short_description: Manage an OCSP signer of a VA
description:
  - A signer is a VA's OCSP signing key for one CA. The VA has it certified over the peer link, and renews it by itself.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.signer
seealso:
  - module: peersys.pki.publisher
"""

EXAMPLES = r"""
- name: Answer OCSP requests for a CA
  peersys.pki.signer:
    name: issuing
    authority: issuing
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
      sample: {name: issuing, authority: issuing}
    state:
      description: Whether the signer is certified, its serial number and its end.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import SIGNER


def main() -> None:
    """Run the module."""
    run_object_module("signers", SIGNER)


if __name__ == "__main__":
    main()
