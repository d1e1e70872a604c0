"""Who a node is: SPIFFE-form node identities and what a peer certificate says about its holder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from node_agent.errors import ConfigError

__all__ = ["NodeIdentity", "PeerIdentity"]

# SPIFFE-ID section 2.1 allows lower-case letters, digits, dots, dashes and underscores in a trust
# domain; a node's name is kept to what is also a DNS label, so that it can be a host name.
_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}\Z")
_NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_URI = re.compile(r"spiffe://(?P<trust_domain>[^/]+)/node/(?P<name>[^/]+)\Z")


@dataclass(frozen=True, slots=True, order=True)
class NodeIdentity:
    """A node's lasting name: ``spiffe://<trust-domain>/node/<name>``.

    Raises ConfigError when a part isn't allowed by the SPIFFE-ID syntax.
    """

    trust_domain: str
    name: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.match(self.trust_domain):
            raise ConfigError(
                f"{self.trust_domain!r} is not a trust domain",
                remedy="use lower-case letters, digits, dots and dashes: pki.example.org",
            )
        if not _NODE_NAME.match(self.name):
            raise ConfigError(
                f"{self.name!r} is not a node name",
                remedy="use a DNS label: lower-case letters, digits and inner dashes, at most 63",
            )

    @classmethod
    def parse(cls, uri: str) -> NodeIdentity:
        """Return the identity that ``uri`` names. Raises ConfigError on any other form."""
        match = _URI.match(uri)
        if match is None:
            raise ConfigError(
                f"{uri!r} is not a node identity",
                remedy="write spiffe://<trust-domain>/node/<name>",
            )
        return cls(match["trust_domain"], match["name"])

    @property
    def uri(self) -> str:
        """The identity as it stands in the certificate's URI SAN."""
        return f"spiffe://{self.trust_domain}/node/{self.name}"

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What a verified peer certificate says: the node, and the exact pins a role may match.

    ``issuer`` is RFC 4514 text, hashes are lower-case hexadecimal SHA-256 (certificate DER, and
    SubjectPublicKeyInfo DER as in RFC 7469).
    """

    node: NodeIdentity
    issuer: str
    serial: int
    fingerprint_sha256: str
    spki_sha256: str
    not_after: float = 0.0

    @classmethod
    def named(cls, node: NodeIdentity) -> Self:
        """Return a node of which only the name is known: no pin matches it."""
        return cls(node, "", 0, "", "")
