#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: crypto_token
short_description: Manage a crypto token of a node
description:
  - A crypto token is where a node keeps private keys. They never leave it.
  - The agent makes a plan of what differs and applies it in one transaction. In check mode it only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.crypto_token
seealso:
  - module: peersys.pki.node
  - module: peersys.pki.certification_authority
"""

EXAMPLES = r"""
- name: Keep the root's key closed between operations
  peersys.pki.crypto_token:
    name: offline
    activation: on_demand

- name: Have the CA's keys made and used in a hardware security module
  peersys.pki.crypto_token:
    name: hsm
    kind: pkcs11
    module: /usr/lib/softhsm/libsofthsm2.so
    token_label: peersys
    pin_credential: pkcs11_pin
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
      sample: {name: offline, kind: soft, activation: on_demand}
    state:
      description:
        - The labels of the keys in the token.
        - With a token of kind V(pkcs11) also its state, V(open) when it can be used, and why it can't be.
      returned: always
      type: dict
"""

from ansible_collections.peersys.pki.plugins.module_utils._object_module import run_object_module
from ansible_collections.peersys.pki.plugins.module_utils._specifications import CRYPTO_TOKEN


def main() -> None:
    """Run the module."""
    run_object_module("crypto_tokens", CRYPTO_TOKEN)


if __name__ == "__main__":
    main()
