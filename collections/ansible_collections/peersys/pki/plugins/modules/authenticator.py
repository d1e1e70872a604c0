#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: authenticator
short_description: Manage a TLS identity of a node
description:
  - An authenticator is a key pair that never leaves the node, a certificate from the Management CA, and the trust anchors for other nodes.
  - Without O(certificate) the node makes the key, if it has none, and returns a CSR for M(peersys.pki.management_certificate).
  - With O(certificate) it is put to use at once. Standing links keep running, new ones show the new certificate.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._connection.state
  - peersys.pki._specifications.authenticator
seealso:
  - module: peersys.pki.management_certificate
  - module: peersys.pki.peer_connector
"""

EXAMPLES = r"""
- name: Make the key of the node's identity
  peersys.pki.authenticator:
    name: peer
  register: identity

- name: Have it certified on the host of the Management CA
  peersys.pki.management_certificate:
    csr: "{{ identity.csr }}"
    identity: spiffe://pki.example.org/node/ra1
  delegate_to: ca1
  register: certified
  when: identity.needs_certificate

- name: Put the certificate to use
  peersys.pki.authenticator:
    name: peer
    certificate: "{{ certified.certificate }}"
    trust_anchors: "{{ certified.trust_anchors }}"
    crls: "{{ [certified.crl] }}"
  when: identity.needs_certificate
"""

RETURN = r"""
csr:
  description: PEM certificate signing request of the authenticator's key. None in check mode on a new authenticator.
  returned: when the authenticator exists
  type: str
needs_certificate:
  description: Whether there is no certificate yet, or one for other names than the specification has.
  returned: when the authenticator exists
  type: bool
  sample: false
certificate:
  description: The installed certificate, None if there is none.
  returned: when the authenticator exists
  type: dict
  sample: {serial: 2a7f, not_after: 1794000000, identity: "spiffe://pki.example.org/node/ra1"}
object:
  description: The authenticator as it stands now. In check mode as it was before, if it was there.
  returned: when the authenticator exists
  type: dict
  contains:
    spec:
      description: What was asked for, with every default filled in.
      returned: always
      type: dict
    state:
      description: CSR, hash of the public key and certificate.
      returned: always
      type: dict
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import CONNECTION, STATE
from ansible_collections.peersys.pki.plugins.module_utils._authentication import (
    certification_needs,
)
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._object_module import (
    delete_object,
    finish,
    foreseen_object,
    get_object,
    put_object,
)
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    AUTHENTICATOR,
    specification_from,
)

KIND = "authenticators"


def main() -> None:
    """Run the module."""
    module = CONNECTION.merge(STATE).merge(AUTHENTICATOR).create_module()

    def act(client: AdminClient) -> dict[str, t.Any]:
        if module.params["state"] == "absent":
            return delete_object(client, KIND, module.params["name"], dry_run=module.check_mode)
        wanted = specification_from(module.params, AUTHENTICATOR)
        name, dry_run = module.params["name"], module.check_mode
        result = put_object(client, KIND, name, wanted, dry_run=dry_run)
        if dry_run:
            result["object"] = get_object(client, KIND, name) or result["object"]
        return {**result, **certification_needs(result["object"])}

    def foreseen() -> dict[str, t.Any]:
        result = foreseen_object(module, KIND, AUTHENTICATOR)
        return {**result, **certification_needs(result["object"])}

    finish(module, act, foreseen=foreseen)


if __name__ == "__main__":
    main()
