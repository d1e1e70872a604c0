# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: certified_authenticator
short_description: Join an authenticator and its certificate
description:
  - Makes of one item of a looped M(peersys.pki.management_certificate) the authenticator with its certificate, trust anchors and CRL.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
positional: _input
options:
  _input:
    description: An item of the registered C(results), whose loop variable is an item of RV(peersys.pki.node#module:authenticators).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Put the certificates to use
  peersys.pki.node:
    authenticators: "{{ certificates.results | map('peersys.pki.certified_authenticator') }}"
"""

RETURN = r"""
_value:
  description: An authenticator for M(peersys.pki.node).
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def certified_authenticator(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the authenticator of one certification; see DOCUMENTATION."""
    try:
        request = result[result["ansible_loop_var"]]
        spec = dict(request["spec"])
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"not an item of a registered certification: {error}") from error
    if result.get("certificate"):
        spec["certificate"] = result["certificate"]
        spec["trust_anchors"] = result["trust_anchors"]
        spec["crls"] = [result["crl"]] if result.get("crl") else []
    return spec


class FilterModule:
    """Filters of authenticators."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"certified_authenticator": certified_authenticator}
