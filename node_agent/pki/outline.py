"""The fields of a certificate by which it is filed, cut out of its DER.

A node that holds thousands of CAs files each at start: this takes a twentieth of the time that a
parsed certificate with its public key takes. Nothing is verified here: it is for certificates that
were checked when they came.
"""

from __future__ import annotations

from typing import NamedTuple

from node_agent.pki import der

__all__ = ["CertificateOutline", "has_one_algorithm", "outline", "subject_key_id"]

_VERSION_TAG = 0xA0
_EXTENSIONS_TAG = 0xA3
_SUBJECT_KEY_ID = der.oid("2.5.29.14")


class CertificateOutline(NamedTuple):
    """Names and SubjectPublicKeyInfo are DER, times seconds since the epoch."""

    serial: int
    issuer: bytes
    not_before: int
    not_after: int
    subject: bytes
    spki: bytes


def outline(certificate: bytes) -> CertificateOutline:
    """Return the outline of a DER certificate. Raises DerError when it hasn't its form."""
    fields = _tbs_fields(certificate)
    if fields and fields[0][0] == _VERSION_TAG:
        fields = fields[1:]
    if len(fields) < 6:
        raise der.DerError("a certificate with too few fields")
    (_, serial, _), _, (_, _, issuer), (_, validity, _), (_, _, subject), (_, _, spki) = fields[:6]
    times = der.children(validity)
    if len(times) != 2:
        raise der.DerError("a validity of other than two times")
    not_before, not_after = (der.decode_time(tag, content) for tag, content, _ in times)
    return CertificateOutline(
        der.decode_integer(serial), issuer, not_before, not_after, subject, spki
    )


def subject_key_id(certificate: bytes) -> bytes | None:
    """Return the subject key identifier of a DER certificate, None without one. Raises DerError."""
    tag, content, _ = _tbs_fields(certificate)[-1]
    if tag != _EXTENSIONS_TAG:
        return None
    for _, extension, _ in der.children(der.read_all(content, der.SEQUENCE)):
        parts = der.children(extension)
        if parts and parts[0][2] == _SUBJECT_KEY_ID:
            return der.read_all(parts[-1][1], der.OCTET_STRING)
    return None


def has_one_algorithm(certificate: bytes) -> bool:
    """Tell whether a certificate names the same signature algorithm inside and outside of what is
    signed (RFC 5280 section 4.1.1.2): outside, anybody may change it. Raises DerError.
    """
    _, (_, _, outside), *_ = der.children(der.read_all(certificate, der.SEQUENCE))
    fields = _tbs_fields(certificate)
    _, (_, _, inside), *_ = fields[1:] if fields[0][0] == _VERSION_TAG else fields
    return inside == outside


def _tbs_fields(certificate: bytes) -> list[tuple[int, bytes, bytes]]:
    _, start, _ = der.read(certificate)
    _, start, end = der.read(certificate, start)
    fields = der.children(certificate[start:end])
    if not fields:
        raise der.DerError("an empty certificate")
    return fields
