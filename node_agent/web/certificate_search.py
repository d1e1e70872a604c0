"""Queries of the certificate store of RFC 4387, read strictly: one attribute, one value.

A search key is the SHA-1 of something in a certificate, in base64 without padding: 27 characters.
SHA-1 is an index here and protects nothing; what is found is checked by its signature.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from node_agent.errors import RequestRefused

__all__ = ["CERTIFICATE_ATTRIBUTES", "CRL_ATTRIBUTES", "SearchKey", "parse_search"]

CERTIFICATE_ATTRIBUTES = ("certHash", "sHash", "iHash", "iAndSHash", "sKIDHash", "name", "uri")
"""Attributes that name a certificate, its subject, issuer, issuer and serial, key, the common name
in its subject, or a URI of its subject.
"""

CRL_ATTRIBUTES = ("iHash", "sKIDHash")
"""Attributes that name the issuer of a CRL by its name or its key."""

_AS_THEY_ARE = frozenset({"name", "uri"})
# A common name has 64 characters (RFC 5280 appendix A.1), of four octets, each escaped; clients may
# add attributes of their own.
_MAX_QUERY_OCTETS = 1024
_KEY = re.compile(rb"[A-Za-z0-9+/]{27}")


class SearchKey(NamedTuple):
    """What is asked for: ``digest`` is a SHA-1, of the value itself for ``name`` and ``uri``."""

    attribute: str
    digest: bytes


def parse_search(query: bytes, attributes: tuple[str, ...]) -> SearchKey:
    """Return the search in ``query``, which must name one of ``attributes``, once. Other attributes
    beside it are ignored (RFC 4387 section 2).

    Raises RequestRefused for anything else (section 2.1 asks for that).
    """
    if len(query) > _MAX_QUERY_OCTETS:
        raise _refused(attributes)
    pairs = (pair.partition("=") for pair in query.decode("latin-1").split("&"))
    wanted = [(name, value) for name, _, value in pairs if name in attributes]
    if len(wanted) != 1:
        raise _refused(attributes)
    name, value = wanted[0]
    if name in _AS_THEY_ARE:
        text = unquote_to_bytes(value.replace("+", " "))
        return SearchKey(name, hashlib.sha1(text, usedforsecurity=False).digest())
    # A plus sign would have to be escaped; as a space it would mean nothing here.
    key = unquote_to_bytes(value)
    if _KEY.fullmatch(key) is None:
        raise _refused(attributes)
    digest = base64.b64decode(key + b"=")
    if base64.b64encode(digest) != key + b"=":
        raise _refused(attributes)
    return SearchKey(name, digest)


def _refused(attributes: tuple[str, ...]) -> RequestRefused:
    return RequestRefused(
        "the query is not one of the certificate store",
        field="query",
        remedy="write one <attribute>=<base64 of a SHA-1, 27 characters; name and uri: as it is>; "
        f"attributes are {', '.join(attributes)}",
    )
