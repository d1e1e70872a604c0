# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What a play needs of an authenticator to have it certified."""

from __future__ import annotations

import typing as t


def certification_needs(described: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return CSR, whether it waits for a certificate, and the certificate that is installed.

    ``described`` is the object with spec and state; without state (a dry run on a new node) the
    CSR isn't known yet.
    """
    state = described.get("state") or {}
    return {
        "csr": state.get("csr"),
        "needs_certificate": state.get("needs_certificate", True),
        "certificate": state.get("certificate"),
    }
