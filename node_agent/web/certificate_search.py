"""Queries of the certificate store of RFC 4387, read strictly: one attribute, one search key.

A search key is the SHA-1 of something in a certificate, in base64 without padding: 27 characters.
SHA-1 is an index here and protects nothing; what is found is checked by its signature.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from node_agent.errors import RequestRefused

__all__ = ["CERTIFICATE_ATTRIBUTES", "CRL_ATTRIBUTES", "SearchKey", "parse_search"]

CERTIFICATE_ATTRIBUTES = ("certHash", "sHash", "iHash", "iAndSHash", "sKIDHash")
"""Attributes that name a certificate, its subject, issuer, issuer and serial, or key."""

CRL_ATTRIBUTES = ("iHash", "sKIDHash")
"""Attributes that name the issuer of a CRL by its name or its key."""

# The longest attribute with a key in which every sign is escaped.
_MAX_QUERY_OCTETS = 100
_QUERY = re.compile(r"([A-Za-z]{1,16})=([A-Za-z0-9+/]{27})")
_ESCAPES = re.compile(r"%(2[Bb]|2[Ff])")


class SearchKey(NamedTuple):
    """What is asked for: ``digest`` is a SHA-1."""

    attribute: str
    digest: bytes


def parse_search(query: bytes, attributes: tuple[str, ...]) -> SearchKey:
    """Return the search in ``query``, which must name one of ``attributes``.

    Raises RequestRefused for anything else (RFC 4387 section 2.1 asks for that).
    """
    if len(query) > _MAX_QUERY_OCTETS:
        raise _refused(attributes)
    text = _ESCAPES.sub(lambda match: chr(int(match[1], 16)), query.decode("latin-1"))
    match = _QUERY.fullmatch(text)
    if match is None or match[1] not in attributes:
        raise _refused(attributes)
    digest = base64.b64decode(match[2] + "=")
    if base64.b64encode(digest) != f"{match[2]}=".encode():
        raise _refused(attributes)
    return SearchKey(match[1], digest)


def _refused(attributes: tuple[str, ...]) -> RequestRefused:
    return RequestRefused(
        "the query is not one of the certificate store",
        field="query",
        remedy=f"write <attribute>=<base64 of a SHA-1, 27 characters>; {', '.join(attributes)}",
    )
