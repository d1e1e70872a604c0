# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What PostgreSQL keeps of a password (SCRAM-SHA-256, RFC 7677).

It is made here, so that the password itself is in no statement and in no log of the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

_FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)\Z")
_ITERATIONS = 4096


def make_verifier(password: str, *, salt: bytes | None = None) -> str:
    """Return what ``ALTER ROLE … PASSWORD`` takes instead of a password. Raises ValueError for a password whose octets
    depend on how it is written.
    """
    return _verifier(password, salt or os.urandom(16), _ITERATIONS)


def is_verifier_of(stored: str, password: str) -> bool:
    """Return whether ``stored`` was made of this password."""
    match = _FORM.match(stored)
    if match is None:
        return False
    made = _verifier(password, base64.b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(made.encode(), stored.encode())


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("the password must be printable ASCII")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(_sign(salted, b"Client Key")).digest()
    server_key = _sign(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def _sign(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
