"""The fields of a certificate by which it is filed, cut out of its DER.

A node that holds thousands of CAs files each at start: this takes a twentieth of the time that a
parsed certificate with its public key takes. Nothing is verified here: it is for certificates that
were checked when they came.
"""

from __future__ import annotations

from typing import NamedTuple

from node_agent.pki import der

__all__ = ["CertificateOutline", "is_wrapped_strictly", "outline", "subject_key_id"]

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


def is_wrapped_strictly(certificate: bytes) -> bool:
    """Tell whether what stands around the signed part is written in the one way there is: the
    algorithm that stands inside (RFC 5280 section 4.1.1.2), and a signature of whole octets.

    None of it is signed, so anybody may change it; and where a signature ends in zero bits, DER
    allows to call some of them unused. Raises DerError.
    """
    parts = der.children(der.read_all(certificate, der.SEQUENCE))
    fields = _tbs_fields(certificate)
    inside = fields[1:] if fields[0][0] == _VERSION_TAG else fields
    if len(parts) != 3 or len(inside) < 2:
        raise der.DerError("not a certificate")
    _, (_, _, algorithm), (tag, signature, _) = parts
    return inside[1][2] == algorithm and tag == der.BIT_STRING and signature[:1] == b"\x00"


def _tbs_fields(certificate: bytes) -> list[tuple[int, bytes, bytes]]:
    _, start, _ = der.read(certificate)
    _, start, end = der.read(certificate, start)
    fields = der.children(certificate[start:end])
    if not fields:
        raise der.DerError("an empty certificate")
    return fields
