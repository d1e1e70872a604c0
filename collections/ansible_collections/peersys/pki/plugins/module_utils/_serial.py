# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Serial numbers as people write them, and as an RA does."""

from __future__ import annotations

import re

# RFC 5280 section 4.1.2.2 limits a serial number to 20 octets.
_SERIAL = re.compile(r"[0-9a-f]{1,40}\Z")


def serial_of(text: str) -> str:
    """Return lower-case hexadecimal without colons or leading zeros. Raises ValueError."""
    plain = re.sub("^0+(?=.)", "", text.replace(":", "").strip().lower())
    if not _SERIAL.match(plain):
        raise ValueError(
            f"serial: {text!r} is no serial number. Write at most 40 hexadecimal digits, in quotes"
        )
    return plain
