"""Signatures with authenticator keys, and certificates that have been verified already.

The algorithm follows from the key and from nothing that travels with the message: a peer can't
choose a weaker one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from node_agent.errors import ConfigError, HandshakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from node_agent.identity import PeerIdentity
    from node_agent.net.tls import IdentityHolder

__all__ = ["PeerCertificates", "VerifiedPeer", "sign", "verify"]

# RFC 8446 section 4.2.3 pairs curve and hash in the same way.
_ECDSA: Final[dict[str, ec.ECDSA]] = {
    "secp256r1": ec.ECDSA(hashes.SHA256()),
    "secp384r1": ec.ECDSA(hashes.SHA384()),
    "secp521r1": ec.ECDSA(hashes.SHA512()),
}
_SHA256: Final = hashes.SHA256()
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)

# Peers of one Management CA; what a stranger can't fill, because only valid chains are kept.
_MAX_REMEMBERED = 4096
# Time alone can invalidate a chain (an intermediate or a CRL expires), so it is looked at again.
_REMEMBER_SECONDS = 60.0


def sign(key: PrivateKeyTypes, data: bytes) -> bytes:
    """Return the signature of ``data``. Raises ConfigError for a key that peers can't verify."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _ECDSA:
        return key.sign(data, _ECDSA[key.curve.name])
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _PSS, _SHA256)
    raise ConfigError(
        f"an authenticator can't have a key of type {type(key).__name__}",
        where="authenticator: key_kind",
        remedy="use ec-p256, ec-p384, ec-p521, ed25519 or rsa",
    )


def verify(key: PublicKeyTypes, signature: bytes, data: bytes) -> bool:
    """Tell whether ``signature`` is the key's over ``data``."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _ECDSA:
            key.verify(signature, data, _ECDSA[key.curve.name])
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PSS, _SHA256)
        else:
            return False
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """A peer whose chain was validated at ``verified_at`` (monotonic seconds)."""

    identity: PeerIdentity
    public_key: PublicKeyTypes
    verified_at: float


class PeerCertificates:
    """Validate the chains that come with signatures, each certificate once per trust generation."""

    def __init__(self, identity: IdentityHolder) -> None:
        self._identity = identity
        self._generation = 0
        self._verified: dict[bytes, VerifiedPeer] = {}

    def verify(self, chain_der: Sequence[bytes]) -> VerifiedPeer:
        """Return whose chain (DER, leaf first) this is. Raises HandshakeError saying what's wrong.

        A validated leaf is remembered by its bytes: with other intermediates, or none, it is the
        same certificate and stays as valid. A change of trust or CRLs forgets all of them.
        """
        if self._generation != self._identity.generation:
            self._verified.clear()
            self._generation = self._identity.generation
        known = self._verified.get(chain_der[0])
        if known is None or self._is_stale(known):
            known = self._verify(chain_der)
        return known

    def _verify(self, chain_der: Sequence[bytes]) -> VerifiedPeer:
        self._verified.pop(chain_der[0], None)
        identity = self._identity.verify_peer(chain_der)
        try:
            key = x509.load_der_x509_certificate(chain_der[0]).public_key()
        except ValueError as error:
            raise HandshakeError(f"the certificate's key can't be read: {error}") from error
        if len(self._verified) >= _MAX_REMEMBERED:
            self._verified.clear()
        verified = VerifiedPeer(identity, key, self._identity.clock.monotonic())
        self._verified[chain_der[0]] = verified
        return verified

    def _is_stale(self, known: VerifiedPeer) -> bool:
        clock = self._identity.clock
        return (
            clock.monotonic() - known.verified_at > _REMEMBER_SECONDS
            or clock.now() > known.identity.not_after
        )
