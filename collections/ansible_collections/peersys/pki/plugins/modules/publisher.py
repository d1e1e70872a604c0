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
options:
  verify:
    description:
      - Compare what the receiver has with what the node has, at once and whatever O(verify_seconds) says.
      - With V(repair) what differs is put right. That is a change; in check mode it is only foreseen.
      - Waits up to O(start_timeout_seconds) for a link to the receiver.
    type: str
    choices: [compare, repair]
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

- name: Put right what differs at the VA, now and each ten minutes
  peersys.pki.publisher:
    name: va1
    peer: spiffe://pki.example.org/node/va1
    authorities: [root, issuing]
    verify_seconds: 600
    verify: repair

- name: Tell a VA in an outer zone nothing but what is revoked
  peersys.pki.publisher:
    name: va2
    peer: spiffe://pki.example.org/node/va2
    authorities: [issuing]
    content: [status, crl]
    only_revoked: true
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
verification:
  description: What was found, by CA.
  returned: when O(verify) is given and the publisher exists
  type: list
  elements: dict
  sample:
    - authority: issuing
      entries: 1000
      missing: 1
      changed: 0
      surplus: 0
      crls: 0
      repaired: 1
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._errors import AgentError, AgentRefused
from ansible_collections.peersys.pki.plugins.module_utils._object_module import (
    get_object,
    run_object_module,
)
from ansible_collections.peersys.pki.plugins.module_utils._specifications import PUBLISHER
from ansible_collections.peersys.pki.plugins.module_utils._waiting import wait_until

VERIFY = ArgumentSpec({"verify": {"type": "str", "choices": ["compare", "repair"]}})
DIFFERENCES = ("missing", "changed", "surplus", "crls")
UNAVAILABLE = 503


def main() -> None:
    """Run the module."""
    run_object_module("publishers", PUBLISHER, besides=VERIFY, afterwards=verify)


def verify(client: AdminClient, module: AnsibleModule) -> t.Dict[str, t.Any]:
    """Compare as O(verify) says; a publisher that check mode didn't make has nothing to compare."""
    wanted, name = module.params["verify"], module.params["name"]
    if wanted is None or (module.check_mode and get_object(client, "publishers", name) is None):
        return {}
    repair = wanted == "repair" and not module.check_mode
    seconds = 0 if module.check_mode else module.params["start_timeout_seconds"]
    answer = wait_until(lambda: _asked(client, name, repair), _complaint, seconds)
    if isinstance(answer, AgentRefused):
        raise answer
    found = answer["authorities"]
    differences = sum(sum(one[kind] for kind in DIFFERENCES) for one in found)
    left = differences - sum(one["repaired"] for one in found)
    if repair and left:
        raise AgentError(
            f"publishers {name}: {left} of {differences} differences are left: see the agent's log, "
            "here and at the receiver"
        )
    return {"changed": wanted == "repair" and differences > 0, "verification": found}


def _asked(
    client: AdminClient, name: str, repair: bool
) -> t.Union[t.Dict[str, t.Any], AgentRefused]:
    body = {"repair": repair}
    try:
        answer: t.Dict[str, t.Any] = client.post(
            "publishers", name, "verification", body=body, about=f"publishers {name}"
        )
    except AgentRefused as error:
        if error.status != UNAVAILABLE:
            raise
        return error
    return answer


def _complaint(answer: t.Union[t.Dict[str, t.Any], AgentRefused]) -> str:
    return str(answer) if isinstance(answer, AgentRefused) else ""


if __name__ == "__main__":
    main()
