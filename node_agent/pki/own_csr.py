"""CSRs for this node's own keys (PKCS #10, RFC 2986).

Assembled here rather than by the library's builder, because a token's key signs without being
handed out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.pki import der
from node_agent.pki.keys import algorithm_identifier
from node_agent.pki.names import NameAttribute, encode_name

if TYPE_CHECKING:
    from node_agent.pki.keys import SigningKey

__all__ = ["build_csr"]

# attributes [0] IMPLICIT SET OF Attribute, empty: it may not be left out.
_NO_ATTRIBUTES = b"\xa0\x00"


def build_csr(key: SigningKey, common_name: str) -> bytes:
    """Return a CSR (DER) that proves possession of ``key``. Raises TokenError.

    ``common_name`` is a hint for people: whoever certifies the key is told the names apart.
    """
    info = der.sequence(
        der.integer(0),
        encode_name((NameAttribute("common_name", common_name),)),
        key.spki,
        _NO_ATTRIBUTES,
    )
    return der.sequence(info, algorithm_identifier(key.kind), der.bit_string(key.sign(info)))
