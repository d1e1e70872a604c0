"""The OCSP request in the path of a GET (RFC 6960 appendix A.1), as clients really write it.

The standard says: base64 of the DER, percent-escaped. In the field the escapes of ``+``, ``/`` and
``=`` are missing, a proxy has turned ``+`` into a space, padding is cut off, and a URL that ends
with a slash gives a double one in front. An OCSP request is a DER SEQUENCE, so its base64 always
begins with ``M``: whatever slashes stand before that are not part of it.
"""

from __future__ import annotations

import binascii
import urllib.parse

__all__ = ["is_ocsp_path", "request_from_path"]

_PREFIX = b"/ocsp/"
# A space is a decoded "+"; "-" and "_" are the URL-safe alphabet of RFC 4648 section 5.
_REPAIR = bytes.maketrans(b" -_", b"++/")
_LINE_BREAKS = b"\r\n"


def is_ocsp_path(path: bytes) -> bool:
    """Whether a GET of ``path`` (without query) is meant as an OCSP request."""
    return path.startswith(_PREFIX) or path.lstrip(b"/").startswith(b"M")


def request_from_path(path: bytes) -> bytes | None:
    """Return the DER that ``path`` carries, or None when it carries no base64."""
    text = path.removeprefix(_PREFIX).lstrip(b"/")
    if b"%" in text:
        text = urllib.parse.unquote_to_bytes(text)
    text = text.translate(_REPAIR, _LINE_BREAKS).lstrip(b"/").rstrip(b"=")
    if not text:
        return None
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return None
