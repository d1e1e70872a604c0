"""CSRs for this node's own keys (PKCS #10, RFC 2986).

Assembled here rather than by the library's builder, because a token's key signs without being
handed out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.pki import der
from node_agent.pki.keys import algorithm_identifier
from node_agent.pki.names import NameAttribute, encode_name

if TYPE_CHECKING:
    from node_agent.pki.keys import SigningKey

__all__ = ["CsrToBeSigned", "prepare_csr"]

# attributes [0] IMPLICIT SET OF Attribute, empty: it may not be left out.
_NO_ATTRIBUTES = b"\xa0\x00"


@dataclass(frozen=True, slots=True)
class CsrToBeSigned:
    """A CertificationRequestInfo (DER). Have ``key`` sign ``info``, then call ``complete``."""

    key: SigningKey
    info: bytes

    def complete(self, signature: bytes) -> bytes:
        """Return the signed CSR as DER."""
        algorithm = algorithm_identifier(self.key.kind)
        return der.sequence(self.info, algorithm, der.bit_string(signature))


def prepare_csr(key: SigningKey, common_name: str) -> CsrToBeSigned:
    """Return a CSR that will prove possession of ``key``.

    ``common_name`` is a hint for people: whoever certifies the key is told the names apart.
    """
    info = der.sequence(
        der.integer(0),
        encode_name((NameAttribute("common_name", common_name),)),
        key.spki,
        _NO_ATTRIBUTES,
    )
    return CsrToBeSigned(key, info)
