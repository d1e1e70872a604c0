# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    """How a requester reaches its RA. Keep in sync with ``module_utils/_registration_client.py``."""

    DOCUMENTATION = r"""
options:
  url:
    description: Where the RA's REST interface is, as V(https://host:port).
    type: str
    required: true
  token:
    description: API token of a requester of that RA. It is only sent to the RA, and shown nowhere.
    type: str
    required: true
  trust_anchors:
    description: PEM certificates against which the RA's server certificate is checked, that is the Management CA's.
    type: list
    elements: str
    required: true
  timeout_seconds:
    description: How long the RA may take to answer.
    type: float
    default: 30.0
notes:
  - Runs with the target's own Python (3.11 or newer) and its standard library only.
"""
