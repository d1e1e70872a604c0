#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: management_certificate
short_description: Certify an authenticator's CSR with the Management CA
description:
  - Asks the node that holds the Management CA for an authenticator's certificate. Runs on that node's host, as its agent takes this from no one else.
  - Asked again for the same key and names, it returns the same certificate until that is near its end.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  authority:
    description: Name of the Management CA.
    type: str
    default: management
  csr:
    description: PEM certificate signing request.
    type: str
    required: true
  purpose:
    description:
      - V(peer) certifies a node's identity on peer links.
      - V(server) certifies the REST port of a node.
    type: str
    choices: [peer, server]
    default: peer
  identity:
    description: The node's identity, V(spiffe://<trust domain>/node/<name>). Required for V(peer).
    type: str
  dns_names:
    description: DNS names of a server certificate.
    type: list
    elements: str
    default: []
  ip_addresses:
    description: IP addresses of a server certificate.
    type: list
    elements: str
    default: []
  renew_before_days:
    description: A certificate with less than this left is replaced.
    type: int
    default: 30
seealso:
  - module: peersys.pki.authenticator
  - module: peersys.pki.management_ca
"""

EXAMPLES = r"""
- name: Certify a node's identity
  peersys.pki.management_certificate:
    csr: "{{ identity.csr }}"
    identity: spiffe://pki.example.org/node/ra1
  delegate_to: ca1
  register: certified
"""

RETURN = r"""
certificate:
  description: PEM chain, leaf first. None in check mode if a new one would be issued.
  returned: always
  type: str
trust_anchors:
  description: PEM certificates that the node must trust.
  returned: always
  type: list
  elements: str
crl:
  description: The Management CA's present CRL as PEM, None if there is none.
  returned: always
  type: str
serial:
  description: Serial number in hexadecimal. None in check mode if a new certificate would be issued.
  returned: always
  type: str
  sample: 2a7f
not_after:
  description: End of validity in seconds since the epoch. None in check mode if a new certificate would be issued.
  returned: always
  type: int
  sample: 1794000000
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import CONNECTION, ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._object_module import finish

REQUEST = ArgumentSpec(
    {
        "authority": {"type": "str", "default": "management"},
        "csr": {"type": "str", "required": True},
        "purpose": {"type": "str", "choices": ["peer", "server"], "default": "peer"},
        "identity": {"type": "str"},
        "dns_names": {"type": "list", "elements": "str", "default": []},
        "ip_addresses": {"type": "list", "elements": "str", "default": []},
        "renew_before_days": {"type": "int", "default": 30},
    },
    required_if=(("purpose", "peer", ("identity",)),),
)


def main() -> None:
    """Run the module."""
    module = CONNECTION.merge(REQUEST).create_module()

    def act(client: AdminClient) -> dict[str, t.Any]:
        asked = {name: module.params[name] for name in REQUEST.options}
        about = f"management certificate for {asked['identity'] or asked['dns_names']}"
        answer = client.post(
            "management-certificates", body=asked, about=about, dry_run=module.check_mode
        )
        # In a dry run the agent leaves what isn't issued yet empty.
        issued = {name: answer[name] or None for name in ("certificate", "serial", "not_after")}
        return {**{name: answer[name] for name in ("changed", "trust_anchors", "crl")}, **issued}

    finish(module, act)


if __name__ == "__main__":
    main()
