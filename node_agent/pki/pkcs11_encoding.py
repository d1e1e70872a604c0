"""Keys and signatures as PKCS #11 has them, to and from what X.509 wants.

A token gives out an ECDSA signature as two numbers side by side and takes hashes, where
certificates have a SEQUENCE and name the algorithm over the whole message.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

from node_agent.errors import TokenError
from node_agent.pki import der
from node_agent.pki.keys import CURVES, RSA_BITS, digest_hash, key_kind_of, spki_of

__all__ = [
    "PKCS11_KEY_KINDS",
    "curve_parameters",
    "digest_info",
    "ec_spki",
    "ecdsa_signature",
    "rsa_spki",
]

PKCS11_KEY_KINDS = (*RSA_BITS, *CURVES, "ed25519")
"""Which keys a token may be asked for; a module may know fewer of them."""

# RFC 5480 section 2.1.1.1 and RFC 8410 section 3.
_CURVE_OIDS = {
    "ec-p256": "1.2.840.10045.3.1.7",
    "ec-p384": "1.3.132.0.34",
    "ec-p521": "1.3.132.0.35",
    "ed25519": "1.3.101.112",
}
# RFC 8017 appendix B.1.
_HASH_OIDS = {"sha256": "2.16.840.1.101.3.4.2.1", "sha512": "2.16.840.1.101.3.4.2.3"}


def curve_parameters(kind: str) -> bytes:
    """Return CKA_EC_PARAMS of keys of ``kind``."""
    return der.oid(_CURVE_OIDS[kind])


def digest_info(kind: str, digest: bytes) -> bytes:
    """Return what CKM_RSA_PKCS signs for a message with this digest (RFC 8017 section 9.2)."""
    algorithm = der.sequence(der.oid(_HASH_OIDS[digest_hash(kind).name]), der.NULL)
    return der.sequence(algorithm, der.octet_string(digest))


def ecdsa_signature(raw: bytes) -> bytes:
    """Return an Ecdsa-Sig-Value (RFC 3279 section 2.2.3) of the numbers r and s side by side.

    Raises TokenError when ``raw`` can't be two numbers of one length.
    """
    half, odd = divmod(len(raw), 2)
    if odd or not half:
        raise TokenError("the module made an ECDSA signature of an impossible length")
    r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    return utils.encode_dss_signature(r, s)


def rsa_spki(kind: str, modulus: bytes, exponent: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of an RSA key. Raises TokenError for one of another kind."""
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
    try:
        return _checked(kind, numbers.public_key())
    except ValueError as error:
        raise TokenError(f"the module's public key is no RSA key: {error}") from error


def ec_spki(kind: str, point: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of CKA_EC_POINT: an OCTET STRING around the point, or with
    older modules the point alone. Raises TokenError when it is no point of the curve.
    """
    try:
        return _checked(kind, _ec_key(kind, _unwrapped(point)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TokenError(f"the module's public key is no {kind} key: {error}") from error


def _ec_key(kind: str, point: bytes) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    if kind == "ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(point)
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[kind], point)


def _unwrapped(point: bytes) -> bytes:
    try:
        return der.read_all(point, der.OCTET_STRING)
    except der.DerError:
        return point


def _checked(
    kind: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
) -> bytes:
    found = key_kind_of(key)
    if found != kind:
        raise TokenError(f"the module made an {found} key where {kind} was asked for")
    return spki_of(key)
