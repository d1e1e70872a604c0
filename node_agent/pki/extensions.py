"""Certificate and CRL extensions as DER (RFC 5280 sections 4.2 and 5.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from node_agent.pki import der
from node_agent.pki.names import AlternativeName, encode_alternative_names

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANY_POLICY",
    "authority_information_access",
    "authority_key_identifier",
    "basic_constraints",
    "certificate_policies",
    "crl_distribution_points",
    "distribution_point_name",
    "key_identifier",
    "ocsp_no_check",
    "subject_alternative_name",
    "subject_key_identifier",
]

ANY_POLICY = "2.5.29.32.0"
_URI_TAG = 0x86
_KEY_IDENTIFIER_BYTES = 20
_SKI_PREFIX = bytes.fromhex("301d0603551d0e04160414")
_OCSP_METHOD = der.oid("1.3.6.1.5.5.7.48.1")
_CA_ISSUERS_METHOD = der.oid("1.3.6.1.5.5.7.48.2")


def key_identifier(spki: bytes) -> bytes:
    """Return the key identifier of a SubjectPublicKeyInfo: method 1 of RFC 7093 section 2.

    The leftmost 160 bits of SHA-256 over the key's bits, so that SHA-1 isn't needed anywhere.
    """
    *_, (_, bits, _) = der.children(der.read_all(spki, der.SEQUENCE))
    return hashlib.sha256(bits[1:]).digest()[:_KEY_IDENTIFIER_BYTES]


def subject_key_identifier(key_id: bytes) -> bytes:
    """Return the SubjectKeyIdentifier extension of a 20-octet identifier."""
    return _SKI_PREFIX + key_id


def authority_key_identifier(key_id: bytes) -> bytes:
    """Return the AuthorityKeyIdentifier extension with a key identifier."""
    value = der.sequence(der.context(0, key_id, constructed=False))
    return der.extension("2.5.29.35", value)


def basic_constraints(*, ca: bool, path_length: int | None = None) -> bytes:
    """Return the critical BasicConstraints extension."""
    parts = [der.TRUE] if ca else []
    if path_length is not None:
        parts.append(der.integer(path_length))
    return der.extension("2.5.29.19", der.sequence(*parts), critical=True)


def authority_information_access(ocsp_urls: Sequence[str], issuer_urls: Sequence[str]) -> bytes:
    """Return the AuthorityInformationAccess extension, or nothing for no URLs."""
    entries = [der.sequence(_OCSP_METHOD, _uri(url)) for url in ocsp_urls]
    entries += [der.sequence(_CA_ISSUERS_METHOD, _uri(url)) for url in issuer_urls]
    return der.extension("1.3.6.1.5.5.7.1.1", der.sequence(*entries)) if entries else b""


def crl_distribution_points(urls: Sequence[str], *, freshest: bool = False) -> bytes:
    """Return CRLDistributionPoints (or FreshestCRL) with one point per URL, or nothing."""
    if not urls:
        return b""
    points = (der.sequence(distribution_point_name(url)) for url in urls)
    dotted = "2.5.29.46" if freshest else "2.5.29.31"
    return der.extension(dotted, der.sequence(*points))


def distribution_point_name(*urls: str) -> bytes:
    """Return the DistributionPointName field [0] with a full name of one URL or several."""
    full_name = der.context(0, b"".join(_uri(url) for url in urls), constructed=True)
    return der.context(0, full_name, constructed=True)


def certificate_policies(policies: Sequence[str]) -> bytes:
    """Return the CertificatePolicies extension without qualifiers, or nothing."""
    if not policies:
        return b""
    information = (der.sequence(der.oid(policy)) for policy in policies)
    return der.extension("2.5.29.32", der.sequence(*information))


def subject_alternative_name(names: Sequence[AlternativeName], *, critical: bool) -> bytes:
    """Return the SubjectAltName extension, or nothing for no names.

    Critical exactly when the subject is empty (RFC 5280 section 4.2.1.6).
    """
    if not names:
        return b""
    return der.extension("2.5.29.17", encode_alternative_names(names), critical=critical)


def ocsp_no_check() -> bytes:
    """Return id-pkix-ocsp-nocheck: the signer's short life stands in for its status."""
    return der.extension("1.3.6.1.5.5.7.48.1.5", der.NULL)


def _uri(url: str) -> bytes:
    return der.tlv(_URI_TAG, url.encode("ascii"))
