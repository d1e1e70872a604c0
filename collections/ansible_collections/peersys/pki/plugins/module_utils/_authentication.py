# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Authenticators: what is installed stays until something newer is given."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient
from ansible_collections.peersys.pki.plugins.module_utils._object_module import (
    get_object,
    put_object,
)

_INSTALLED_FIELDS = ("certificate", "trust_anchors", "crls")


def keep_installed(
    wanted: dict[str, t.Any], present: t.Mapping[str, t.Any] | None
) -> dict[str, t.Any]:
    """Return ``wanted`` with the certificate, anchors and CRLs of ``present`` where it has none."""
    installed = {
        field: present[field] for field in _INSTALLED_FIELDS if present and present.get(field)
    }
    return {**installed, **wanted}


def put_authenticator(
    client: AdminClient, wanted: dict[str, t.Any], *, dry_run: bool
) -> dict[str, t.Any]:
    """Make the authenticator as ``wanted``; returns its CSR and whether it must be certified."""
    name = wanted["name"]
    present = get_object(client, "authenticators", name)
    merged = keep_installed(wanted, present["spec"] if present else None)
    result = put_object(client, "authenticators", name, merged, dry_run=dry_run)
    if not result["object"].get("state") and present:
        result["object"]["state"] = present["state"]
    state = result["object"].get("state") or {}
    return {
        **result,
        "csr": state.get("csr"),
        "needs_certificate": state.get("needs_certificate", True),
        "certificate": state.get("certificate"),
    }
