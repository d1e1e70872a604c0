#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: revocation
short_description: Revoke, hold or release a certificate through an RA
description:
  - Asks the RA for the certificate's status and, if it isn't as wanted, orders the change.
  - A revocation is final. Only what is on hold can be released.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
  - peersys.pki._registration
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  authority:
    description: The CA that issued the certificate.
    type: str
    required: true
  serial:
    description: Serial number in hexadecimal. Colons and upper case, as other programs print it, are understood.
    type: str
    required: true
  state:
    description:
      - V(revoked) revokes it for good, for O(reason). One that is revoked already stays so, whatever the reason was.
      - V(on_hold) takes it out of use until it is released.
      - V(good) releases it.
    type: str
    choices: [revoked, on_hold, good]
    default: revoked
  reason:
    description: Why it is revoked, a reason of RFC 5280. Only for O(state=revoked).
    type: str
    choices:
      - unspecified
      - keyCompromise
      - cACompromise
      - affiliationChanged
      - superseded
      - cessationOfOperation
      - privilegeWithdrawn
      - aACompromise
    default: unspecified
seealso:
  - module: peersys.pki.certificate
  - module: peersys.pki.requester
"""

EXAMPLES = r"""
- name: Revoke the certificate of a host whose key was stolen
  peersys.pki.revocation:
    url: https://ra1.example.org:8443
    token: "{{ deployment_token }}"
    trust_anchors: ["{{ lookup('ansible.builtin.file', 'management.pem') }}"]
    authority: issuing
    serial: 53:d0:0a:11
    reason: keyCompromise
  delegate_to: localhost
"""

RETURN = r"""
serial:
  description: Serial number as the RA writes it.
  returned: success
  type: str
  sample: 53d00a11
status:
  description: Status after the module ran, one of V(good), V(on_hold), V(revoked). In check mode the foreseen one.
  returned: success
  type: str
  sample: revoked
"""

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    REGISTRATION,
    RegistrationClient,
    RequestFailed,
    certificate_path,
    client_from,
)
from ansible_collections.peersys.pki.plugins.module_utils._serial import serial_of

REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)
ORDER = ArgumentSpec(
    {
        "authority": {"type": "str", "required": True},
        "serial": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["revoked", "on_hold", "good"], "default": "revoked"},
        "reason": {"type": "str", "choices": list(REASONS), "default": "unspecified"},
    }
)


def main() -> None:
    """Run the module."""
    module = REGISTRATION.merge(ORDER).create_module()
    try:
        client = client_from(module.params)
        try:
            result = order(client, module.params, dry_run=module.check_mode)
        finally:
            client.close()
    except (RequestFailed, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def order(
    client: RegistrationClient, params: t.Mapping[str, t.Any], *, dry_run: bool
) -> dict[str, t.Any]:
    """Make the certificate's status as wanted. Raises RequestFailed, or ValueError for a serial."""
    serial, wanted = serial_of(params["serial"]), params["state"]
    path = certificate_path(params["authority"], serial)
    present = client.get(path)["status"]
    result = {"serial": serial, "status": wanted}
    if present == wanted:
        return {**result, "changed": False, "diff": []}
    if present == "revoked":
        raise RequestFailed(
            f"serial: {serial} of {params['authority']} is revoked, and a revocation is final. "
            "Enrol a new certificate"
        )
    if not dry_run:
        client.post(f"{path}/revocation", {"reason": reason(params)})
    header = f"{params['authority']}/{serial}"
    difference = {"before_header": header, "after_header": header}
    return {
        **result,
        "changed": True,
        "diff": [{**difference, "before": f"{present}\n", "after": f"{wanted}\n"}],
    }


def reason(params: t.Mapping[str, t.Any]) -> str:
    """Return the reason of RFC 5280 that brings the wanted state about."""
    special = {"on_hold": "certificateHold", "good": "removeFromCRL"}
    return special.get(params["state"]) or str(params["reason"])


if __name__ == "__main__":
    main()
