#!/usr/bin/python
# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Keep a host's own certificate fresh through an RA
description:
  - Makes a private key on the host, has it certified through an RA's REST interface, and writes key and certificate.
  - Does it again, with a new key, when the certificate is near its end, its names or profile differ, it was revoked, or the key isn't its own.
  - Key and request id are written down before the RA is asked. After whatever failure the next run gets the same certificate, never a second one.
  - Needs C(openssl) 3 on the host.
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
    details:
      - Shows names and status. A private key is never shown.
  idempotent:
    support: full
  action_group:
    support: none
    membership: []
options:
  state:
    description:
      - V(present) keeps a valid certificate.
      - V(absent) revokes it, and removes key and certificate.
    type: str
    choices: [present, absent]
    default: present
  key_path:
    description: Where the private key is. Its directory must exist. While a request waits for its answer, a file with C(.request) added is beside it.
    type: path
    required: true
  key_mode:
    description: Mode of the private key, in octal. It belongs to the user that the module runs as.
    type: str
    default: "0600"
  certificate_path:
    description: Where the certificate is, followed by the certificates of its CAs without the root, as servers take it.
    type: path
    required: true
  authority:
    description: The CA that is to issue it.
    type: str
    required: true
  profile:
    description: The profile to enrol with. Required when O(state=present).
    type: str
  common_name:
    description: Common name in the subject. The subject is empty without it.
    type: str
  dns_names:
    description: DNS names.
    type: list
    elements: str
    default: []
  ip_addresses:
    description: IP addresses.
    type: list
    elements: str
    default: []
  emails:
    description: E-mail addresses.
    type: list
    elements: str
    default: []
  uris:
    description: URIs.
    type: list
    elements: str
    default: []
  key_kind:
    description: Kind of the private key that is made. One that is there stays until the certificate is renewed.
    type: str
    choices: [ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072, rsa-4096, ed25519]
    default: ec-p256
  validity_days:
    description: Shortens what the profile gives.
    type: int
  renew_before_days:
    description: A certificate with less than this left is replaced.
    type: int
    default: 10
  check_status:
    description:
      - Whether to ask the RA for the status of a certificate that looks fresh. The requester then needs the right C(/ra/status).
      - An RA that can't be reached is a warning, as long as the certificate is fresh.
    type: bool
    default: true
  revocation_reason:
    description: Why it is revoked when O(state=absent), a reason of RFC 5280.
    type: str
    choices: [unspecified, keyCompromise, superseded, cessationOfOperation]
    default: cessationOfOperation
seealso:
  - module: peersys.pki.requester
  - module: peersys.pki.revocation
"""

EXAMPLES = r"""
- name: Keep the web server's certificate fresh
  peersys.pki.certificate:
    url: https://ra1.example.org:8443
    token: "{{ web_token }}"
    trust_anchors: ["{{ lookup('ansible.builtin.file', 'management.pem') }}"]
    authority: issuing
    profile: tls_server
    dns_names: ["{{ inventory_hostname }}"]
    key_path: /etc/ssl/private/web.key
    certificate_path: /etc/ssl/certs/web.pem
  notify: Reload the web server
"""

RETURN = r"""
why:
  description: Why a certificate was enrolled, or would be. Empty when the present one stays.
  returned: success
  type: str
  sample: it is near its end
serial:
  description: Serial number in hexadecimal. In check mode that of the present certificate. None when there is none.
  returned: success
  type: str
  sample: 53d00a11
not_after:
  description: End of validity in seconds since the epoch. None when there is no certificate.
  returned: success
  type: int
  sample: 1794000000
waiting:
  description:
    - What the request waits for, where the profile asks for approvals. The next run asks again, with the same key.
    - None when it waits for nothing.
  returned: success
  type: dict
  sample: {approval: 9f2c, approvals_given: 1, approvals_needed: 2, expires_at: 1794000000}
"""

import re
import time
import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._argspec import STATE, ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._host_certificate import (
    HostCertificate,
    Wanted,
    status_complaint,
)
from ansible_collections.peersys.pki.plugins.module_utils._openssl import (
    KEY_KINDS,
    Described,
    Names,
    Openssl,
    OpensslFailed,
)
from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    REGISTRATION,
    RegistrationClient,
    RequestFailed,
    WaitsForApproval,
    certificate_path,
    client_from,
)

REASONS = ["unspecified", "keyCompromise", "superseded", "cessationOfOperation"]
NAMES: dict[str, dict[str, t.Any]] = {
    name: {"type": "list", "elements": "str", "default": []}
    for name in ("dns_names", "ip_addresses", "emails", "uris")
}
CERTIFICATE = ArgumentSpec(
    {
        "key_path": {"type": "path", "required": True, "no_log": False},
        "key_mode": {"type": "str", "default": "0600", "no_log": False},
        "certificate_path": {"type": "path", "required": True},
        "authority": {"type": "str", "required": True},
        "profile": {"type": "str"},
        "common_name": {"type": "str"},
        **NAMES,
        "key_kind": {
            "type": "str",
            "choices": list(KEY_KINDS),
            "default": "ec-p256",
            "no_log": False,
        },
        "validity_days": {"type": "int"},
        "renew_before_days": {"type": "int", "default": 10},
        "check_status": {"type": "bool", "default": True},
        "revocation_reason": {
            "type": "str",
            "choices": REASONS,
            "default": "cessationOfOperation",
        },
    },
    needed=("profile",),
)
_DAY_SECONDS = 86400
_WARNINGS = "warnings"


def main() -> None:
    """Run the module."""
    module = STATE.merge(REGISTRATION).merge(CERTIFICATE).of_an_object().create_module()
    params = module.params
    act = kept if params["state"] == "present" else removed
    try:
        host = HostCertificate(
            Openssl(module.get_bin_path("openssl", required=True)),
            key_path=params["key_path"],
            certificate_path=params["certificate_path"],
            key_mode=mode_of(params["key_mode"]),
        )
        client = client_from(params)
        try:
            result = act(host, client, params, dry_run=module.check_mode)
        finally:
            client.close()
    except (RequestFailed, OpensslFailed, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop(_WARNINGS, ()):
        module.warn(warning)
    module.exit_json(**result)


def kept(
    host: HostCertificate,
    client: RegistrationClient,
    params: t.Mapping[str, t.Any],
    *,
    dry_run: bool,
) -> dict[str, t.Any]:
    """Enrol if there is a reason to."""
    wanted, found, warnings = wanted_from(params), host.present(), [""]
    why = host.complaint(wanted, found)
    if found is not None and not why and params["check_status"]:
        why, warnings[0] = status_complaint(client, wanted, found)
    result: dict[str, t.Any] = {"changed": bool(why), "why": why, "diff": [], "waiting": None}
    if why:
        before = [*found.names.lines(), why] if found else []
        result["diff"] = [difference(params, before, [*wanted.names.lines(), "valid"])]
    if why and not dry_run:
        try:
            found = host.enrol(client, wanted, params["timeout_seconds"])
        except WaitsForApproval as waits:
            return {
                **result,
                **shown(found),
                "changed": False,
                "waiting": waits.waiting,
                _WARNINGS: [f"{waits}. Run this again once it is approved"],
            }
        if found.not_after - time.time() < wanted.renew_before_seconds:
            days = params["renew_before_days"]
            warnings.append(f"renew_before_days: {days} is more than a certificate lasts")
    return {**result, **shown(found), _WARNINGS: [text for text in warnings if text]}


def removed(
    host: HostCertificate,
    client: RegistrationClient,
    params: t.Mapping[str, t.Any],
    *,
    dry_run: bool,
) -> dict[str, t.Any]:
    """Revoke the certificate and remove the files."""
    found, files = host.present(), host.files()
    result: dict[str, t.Any] = {"changed": bool(files), "why": "", "diff": [], "waiting": None}
    result.update(shown(found))
    if files:
        before = [*found.names.lines(), "valid"] if found else files
        result["diff"] = [difference(params, before, [])]
    if files and not dry_run:
        if found is not None:
            path = certificate_path(params["authority"], found.serial)
            if client.get(path)["status"] != "revoked":
                client.post(f"{path}/revocation", {"reason": params["revocation_reason"]})
        host.remove()
    return result


def mode_of(text: str) -> int:
    """Return the mode that ``text`` writes. Raises ValueError."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError(f"key_mode: {text!r} is no mode. Write four octal digits, in quotes")
    return int(text, 8)


def wanted_from(params: t.Mapping[str, t.Any]) -> Wanted:
    """Return what the options describe. Raises ValueError naming the option at fault."""
    days = params["validity_days"]
    return Wanted(
        authority=params["authority"],
        profile=params["profile"],
        names=Names.of(
            params["common_name"],
            dns=params["dns_names"],
            ip=params["ip_addresses"],
            email=params["emails"],
            uri=params["uris"],
        ),
        key_kind=params["key_kind"],
        validity_seconds=None if days is None else days * _DAY_SECONDS,
        renew_before_seconds=params["renew_before_days"] * _DAY_SECONDS,
    )


def shown(found: Described | None) -> dict[str, t.Any]:
    """Return what a play may want to read of a certificate."""
    return {
        "serial": found.serial if found else None,
        "not_after": found.not_after if found else None,
    }


def difference(
    params: t.Mapping[str, t.Any], before: t.Sequence[str], after: t.Sequence[str]
) -> dict[str, str]:
    """Return the diff entry of names and status."""
    path = params["certificate_path"]
    return {
        "before_header": path,
        "after_header": path,
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }


if __name__ == "__main__":
    main()
