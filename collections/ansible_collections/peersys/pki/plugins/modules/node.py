#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Manage every object of a node in one call
description:
  - Hands the whole specification of a node to its agent, which makes one plan of what differs and applies it in one transaction.
  - Objects that aren't listed stay, except of the kinds named in O(purge).
  - In check mode the agent only makes the plan.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._attributes.object
  - peersys.pki._connection
  - peersys.pki._specifications.node
options:
  purge:
    description:
      - Kinds of objects of which only those listed in this call are to remain.
      - Objects of other kinds stay as they are, and so do roles by which a node that was taken over is isolated.
    type: list
    elements: str
    choices:
      - crypto_tokens
      - authenticators
      - certificate_profiles
      - certification_authorities
      - peer_issuers
      - peer_roles
      - peer_connectors
      - publishers
      - signers
      - requesters
    default: []
seealso:
  - module: peersys.pki.node_info
"""

EXAMPLES = r"""
- name: Describe a VA
  peersys.pki.node:
    peer_roles:
      - name: publishing_authorities
        members: ["spiffe://pki.example.org/node/ca1"]
        rules:
          - resource: /peer/incoming
          - resource: /peer/upstream
          - resource: /peer/publish/**
          - resource: /ca/**
    signers:
      - name: issuing
        authority: issuing
    purge: [signers]
"""

RETURN = r"""
objects:
  description: The objects that the plan touched, by kind and name. In check mode without state.
  returned: always
  type: dict
  sample: {signers: {issuing: {spec: {name: issuing, authority: issuing}, state: {state: active}}}}
steps:
  description: The steps of the plan in their order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: What is done.
      returned: always
      type: str
      sample: create
    kind:
      description: Kind of the object.
      returned: always
      type: str
      sample: signers
    name:
      description: Name of the object.
      returned: always
      type: str
      sample: issuing
authenticators:
  description: The authenticators in O(authenticators), in the same order.
  returned: when O(authenticators) is given
  type: list
  elements: dict
  contains:
    name:
      description: Name of the authenticator.
      returned: always
      type: str
      sample: peer
    spec:
      description: What was asked for.
      returned: always
      type: dict
    csr:
      description: PEM certificate signing request. None in check mode on a new authenticator.
      returned: always
      type: str
    needs_certificate:
      description: Whether there is no certificate yet, or one for other names than the specification has.
      returned: always
      type: bool
      sample: false
    certificate:
      description: The installed certificate, None if there is none.
      returned: always
      type: dict
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import CONNECTION, ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._node_plan import (
    authenticators,
    node_options,
    put_node,
    wanted_objects,
)
from ansible_collections.peersys.pki.plugins.module_utils._object_module import (
    finish,
    foreseen_plan,
)


def main() -> None:
    """Run the module."""
    module = CONNECTION.merge(ArgumentSpec(node_options())).create_module()
    wanted = wanted_objects(module.params)

    def act(client: AdminClient) -> dict[str, t.Any]:
        return put_node(client, wanted, module.params["purge"], dry_run=module.check_mode)

    def foreseen() -> dict[str, t.Any]:
        named = authenticators(wanted.get("authenticators", ()), ())
        return {**foreseen_plan(wanted), "objects": {}, "steps": [], "authenticators": named}

    finish(module, act, foreseen=foreseen)


if __name__ == "__main__":
    main()
