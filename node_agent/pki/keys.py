"""Key pairs: kinds, generation, signature algorithms and the two ways to sign.

A key kind fixes its signature algorithm, so that nothing ever has to choose: RSA signs PKCS #1
v1.5 with SHA-256 (2048, 3072) or SHA-512 (4096), EC with the hash of its curve's size, Ed25519 and
ML-DSA as themselves. ``sign`` takes the message. ``sign_digest`` takes what ``start_digest``
computed over a message that is too long to hold: a hash, or for ML-DSA its message representative
*mu* (FIPS 204 section 6.2). Ed25519 hashes the message twice and has no such form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa, utils

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import der

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CURVES",
    "KEY_KINDS",
    "RSA_BITS",
    "Digest",
    "LocalKey",
    "PrivateKey",
    "PublicKey",
    "SigningKey",
    "algorithm_identifier",
    "digest_hash",
    "generate_key",
    "is_cheap",
    "key_kind_of",
    "load_spki",
    "spki_of",
    "start_digest",
    "verify",
    "verify_digest",
]

PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
_MLDSA_PRIVATE = (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey)
_MLDSA_PUBLIC = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)

CURVES: dict[str, ec.EllipticCurve] = {
    "ec-p256": ec.SECP256R1(),
    "ec-p384": ec.SECP384R1(),
    "ec-p521": ec.SECP521R1(),
}
_KIND_OF_CURVE = {curve.name: kind for kind, curve in CURVES.items()}
RSA_BITS = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
_MLDSA: dict[str, Callable[[], PrivateKey]] = {
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
_MLDSA_KINDS: tuple[tuple[type, str], ...] = (
    (mldsa.MLDSA44PublicKey, "ml-dsa-44"),
    (mldsa.MLDSA65PublicKey, "ml-dsa-65"),
    (mldsa.MLDSA87PublicKey, "ml-dsa-87"),
)
KEY_KINDS = (*RSA_BITS, *CURVES, "ed25519", *_MLDSA)

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-2048": hashes.SHA256(),
    "rsa-3072": hashes.SHA256(),
    "rsa-4096": hashes.SHA512(),
    "ec-p256": hashes.SHA256(),
    "ec-p384": hashes.SHA384(),
    "ec-p521": hashes.SHA512(),
}
_ECDSA = {kind: ec.ECDSA(_HASHES[kind]) for kind in CURVES}
_ECDSA_DIGEST = {kind: ec.ECDSA(utils.Prehashed(_HASHES[kind])) for kind in CURVES}
_PKCS1 = padding.PKCS1v15()

# RFC 4055 section 5 (RSA: parameters NULL), RFC 5758 section 3.2, RFC 8410 section 3 and RFC 9881
# section 2 (parameters absent).
_ALGORITHM_IDENTIFIERS = {
    "rsa-2048": der.sequence(der.oid("1.2.840.113549.1.1.11"), der.NULL),
    "rsa-3072": der.sequence(der.oid("1.2.840.113549.1.1.11"), der.NULL),
    "rsa-4096": der.sequence(der.oid("1.2.840.113549.1.1.13"), der.NULL),
    "ec-p256": der.sequence(der.oid("1.2.840.10045.4.3.2")),
    "ec-p384": der.sequence(der.oid("1.2.840.10045.4.3.3")),
    "ec-p521": der.sequence(der.oid("1.2.840.10045.4.3.4")),
    "ed25519": der.sequence(der.oid("1.3.101.112")),
    "ml-dsa-44": der.sequence(der.oid("2.16.840.1.101.3.4.3.17")),
    "ml-dsa-65": der.sequence(der.oid("2.16.840.1.101.3.4.3.18")),
    "ml-dsa-87": der.sequence(der.oid("2.16.840.1.101.3.4.3.19")),
}


class Digest(Protocol):
    """A running hash, or ML-DSA's running message representative."""

    def update(self, data: bytes) -> None:
        """Add ``data``."""
        ...

    def finalize(self) -> bytes:
        """Return what ``sign_digest`` takes."""
        ...


class SigningKey(Protocol):
    """A private key that can be used but not read."""

    @property
    def kind(self) -> str:
        """The key kind, one of KEY_KINDS."""
        ...

    @property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo DER."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data`` as it stands in a certificate."""
        ...

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature of the message whose digest (see ``start_digest``) is given."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class LocalKey:
    """A private key in this process's memory."""

    private_key: PrivateKey
    kind: str
    spki: bytes

    @classmethod
    def of(cls, private_key: PrivateKey) -> LocalKey:
        """Wrap ``private_key``. Raises RequestRefused for a kind that isn't supported."""
        public = private_key.public_key()
        return cls(private_key, key_kind_of(public), spki_of(public))

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``."""
        key = self.private_key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, _ECDSA[self.kind])
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, _PKCS1, _HASHES[self.kind])
        return key.sign(data)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature of the message with this digest.

        Raises ConfigError for Ed25519, which needs the whole message.
        """
        key = self.private_key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(digest, _ECDSA_DIGEST[self.kind])
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(digest, _PKCS1, utils.Prehashed(_HASHES[self.kind]))
        if isinstance(key, _MLDSA_PRIVATE):
            return key.sign_mu(digest)
        raise ConfigError("an Ed25519 key can't sign a digest", remedy="sign the whole message")

    def __repr__(self) -> str:
        return f"LocalKey({self.kind})"


def generate_key(kind: str) -> PrivateKey:
    """Return a new private key. Raises ConfigError for an unknown or unsupported kind."""
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind])
    if kind in RSA_BITS:
        return rsa.generate_private_key(65537, RSA_BITS[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind not in _MLDSA:
        raise ConfigError(
            f"{kind!r} is not a key kind", remedy=f"use one of {', '.join(KEY_KINDS)}"
        )
    try:
        return _MLDSA[kind]()
    except UnsupportedAlgorithm as error:
        raise ConfigError(
            f"this build of cryptography has no {kind}", remedy="use an ec or rsa key kind"
        ) from error


def key_kind_of(public_key: object) -> str:
    """Return the kind of a public key. Raises RequestRefused when it has none here."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        if kind := _KIND_OF_CURVE.get(public_key.curve.name):
            return kind
        raise _unsupported(f"the curve {public_key.curve.name} is not supported")
    if isinstance(public_key, rsa.RSAPublicKey):
        if (kind := f"rsa-{public_key.key_size}") in RSA_BITS:
            return kind
        raise _unsupported(f"RSA keys of {public_key.key_size} bits are not supported")
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519"
    for family, kind in _MLDSA_KINDS:
        if isinstance(public_key, family):
            return kind
    raise _unsupported("this kind of key is not supported")


def _unsupported(detail: str) -> RequestRefused:
    return RequestRefused(detail, field="key", remedy=f"use one of {', '.join(KEY_KINDS)}")


def is_cheap(kind: str) -> bool:
    """Tell whether one signature takes well under a millisecond, so that a loop may make it.

    EC and Ed25519 take 0.05 to 0.3 ms; RSA 0.8 to 6.5 ms and ML-DSA 1 to 2 ms.
    """
    return kind in CURVES or kind == "ed25519"


def algorithm_identifier(kind: str) -> bytes:
    """Return the DER AlgorithmIdentifier of signatures by keys of ``kind``."""
    return _ALGORITHM_IDENTIFIERS[kind]


def spki_of(public_key: PublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo DER."""
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def load_spki(spki: bytes) -> PublicKey:
    """Return the public key. Raises RequestRefused when it can't be used here."""
    try:
        public_key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unsupported("the public key can't be read") from error
    key_kind_of(public_key)
    return public_key  # type: ignore[return-value]  # of a kind just found


def start_digest(kind: str, spki: bytes) -> Digest | None:
    """Return a running digest for ``sign_digest``, or None where the whole message is needed."""
    if kind in _HASHES:
        return hashes.Hash(_HASHES[kind])
    public_key = load_spki(spki)
    if isinstance(public_key, _MLDSA_PUBLIC):
        return mldsa.MLDSAMuHasher(public_key)
    return None


def digest_hash(kind: str) -> hashes.HashAlgorithm:
    """Return the hash that signatures by keys of an RSA or EC ``kind`` are over."""
    return _HASHES[kind]


def verify(spki: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether ``signature`` is the key's signature of ``data``, by its kind's algorithm."""
    key = load_spki(spki)
    kind = key_kind_of(key)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ECDSA[kind])
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PKCS1, _HASHES[kind])
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def verify_digest(spki: bytes, signature: bytes, digest: bytes) -> bool:
    """Tell whether ``signature`` is an RSA or EC key's of the message with this digest."""
    key = load_spki(spki)
    kind = key_kind_of(key)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, _ECDSA_DIGEST[kind])
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, _PKCS1, utils.Prehashed(_HASHES[kind]))
        else:
            return False
    except InvalidSignature:
        return False
    return True
