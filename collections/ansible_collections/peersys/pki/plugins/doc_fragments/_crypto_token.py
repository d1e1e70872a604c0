# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The options of a crypto token, for its own module and for M(peersys.pki.node)."""

from __future__ import annotations

CRYPTO_TOKENS = r"""
name:
  description: Name of the crypto token.
  type: str
  required: true
kind:
  description:
    - Where the keys live, for good. V(soft) keeps them encrypted in the node's store.
    - V(pkcs11) has a token of a PKCS #11 module (an HSM) make and use them. An authenticator can't have its key there.
  type: str
  choices: [soft, pkcs11]
  default: soft
activation:
  description:
    - V(automatic) keys stay open while the agent runs.
    - V(on_demand) keys are opened for one operation and closed again.
  type: str
  choices: [automatic, on_demand]
  default: automatic
module:
  description: Absolute path of the module for C(kind=pkcs11), one that C(pkcs11_modules) of the start-up file allows.
  type: str
token_label:
  description: The token with this label. One of this, C(token_serial) and C(slot) is needed with C(kind=pkcs11).
  type: str
token_serial:
  description: The token with this serial number.
  type: str
slot:
  description: The token in the slot of this number. Many modules number slots anew.
  type: int
pin_file:
  description: Absolute path of a file on the node's host with the token's PIN, readable by the agent's user only.
  type: str
pin_credential:
  description: Name of a systemd credential that holds the PIN. This or C(pin_file) is needed with C(kind=pkcs11).
  type: str
"""
