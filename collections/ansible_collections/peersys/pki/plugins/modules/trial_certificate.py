#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: trial_certificate
short_description: Enrol, check and revoke a trial certificate, as a client would
description:
  - Goes the whole way of a certificate from outside, with C(openssl) as an independent judge.
  - Enrols a P-256 key through an RA's REST interface, and asks again with the same request id.
  - Verifies the chain with the CRLs of each VA, and asks each VA by OCSP.
  - Revokes through the RA, and measures how long each VA takes to say so.
  - Fails at the first step that isn't as it must be, and names the RA or VA.
  - Needs C(openssl) 3 on the host where it runs, which reaches the RA and the VAs.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
extends_documentation_fragment:
  - peersys.pki._attributes
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run issues and revokes one certificate.
  action_group:
    support: none
    membership: []
options:
  registration_authority:
    description: Name of the RA, for messages.
    type: str
    required: true
  url:
    description: Where the RA's REST interface is.
    type: str
    required: true
  token:
    description: API token of a requester that may enrol and revoke.
    type: str
    required: true
  trust_anchors:
    description: PEM certificates of the Management CA, against which the RA's server certificate is checked.
    type: list
    elements: str
    required: true
  authority:
    description: The CA to enrol from.
    type: str
    required: true
  profile:
    description: The profile to enrol with.
    type: str
    required: true
  root:
    description: PEM certificate of the root that the chain must end at.
    type: str
    required: true
  dns_name:
    description: DNS name in the certificate.
    type: str
    default: trial.peersys.test
  validation_authorities:
    description: The VAs that must know the certificate.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the VA, for messages.
        type: str
        required: true
      url:
        description: Where its OCSP responder and CRLs are.
        type: str
        required: true
      crls:
        description:
          - CAs of the chain whose CRLs the VA serves, O(authority) first.
          - When all of the chain's are there, every certificate is checked, else only the trial certificate.
        type: list
        elements: str
        required: true
      cached_seconds:
        description: How long a cache in front of the VA may go on with what was, in addition to O(revocation_seconds).
        type: float
        default: 0.0
  timeout_seconds:
    description: How long each step may take until it is as it must be.
    type: float
    default: 20.0
  revocation_seconds:
    description: How long a VA may take from the RA's answer until it says revoked.
    type: float
    default: 1.0
seealso:
  - module: peersys.pki.peer_info
"""

EXAMPLES = r"""
- name: Try an RA and a VA
  peersys.pki.trial_certificate:
    registration_authority: ra1
    url: https://ra1.example.org:8443
    token: "{{ verification_token }}"
    trust_anchors: "{{ management_anchors }}"
    authority: issuing
    profile: tls_server
    root: "{{ root_certificate }}"
    validation_authorities:
      - name: va1
        url: http://va1.example.org
        crls: [issuing, root]
"""

RETURN = r"""
steps:
  description: What was done, in order.
  returned: always
  type: list
  elements: dict
  contains:
    step:
      description: What was done.
      returned: always
      type: str
      sample: enrolled
    node:
      description: The RA or VA.
      returned: always
      type: str
      sample: ra1
    milliseconds:
      description: How long it took.
      returned: always
      type: float
      sample: 12.5
    detail:
      description: What was seen.
      returned: always
      type: str
serial:
  description: Serial number of the trial certificate in hexadecimal.
  returned: success
  type: str
"""

import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.peersys.pki.plugins.module_utils._trial import (
    Trial,
    TrialFailed,
    run_trial,
)


def main() -> None:
    """Run the module."""
    required_text = {"type": "str", "required": True}
    validation_authority = {
        "name": required_text,
        "url": required_text,
        "crls": {"type": "list", "elements": "str", "required": True},
        "cached_seconds": {"type": "float", "default": 0.0},
    }
    module = AnsibleModule(
        argument_spec={
            "registration_authority": required_text,
            "url": required_text,
            "token": {"type": "str", "required": True, "no_log": True},
            "trust_anchors": {"type": "list", "elements": "str", "required": True},
            "authority": required_text,
            "profile": required_text,
            "root": required_text,
            "dns_name": {"type": "str", "default": "trial.peersys.test"},
            "validation_authorities": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": validation_authority,
            },
            "timeout_seconds": {"type": "float", "default": 20.0},
            "revocation_seconds": {"type": "float", "default": 1.0},
        },
    )
    openssl = module.get_bin_path("openssl", required=True)
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
        trial = Trial(module.params, openssl, directory)
        try:
            run_trial(trial)
        except TrialFailed as error:
            module.fail_json(msg=str(error), steps=trial.steps)
    module.exit_json(changed=True, steps=trial.steps, serial=trial.serial)


if __name__ == "__main__":
    main()
