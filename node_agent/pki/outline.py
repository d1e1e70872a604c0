"""The fields of a certificate by which it is filed, cut out of its DER.

A node that holds thousands of CAs files each at start: this takes a twentieth of the time that a
parsed certificate with its public key takes. Nothing is verified here: it is for certificates that
were checked when they came.
"""

from __future__ import annotations

from typing import NamedTuple

from node_agent.pki import der

__all__ = ["CertificateOutline", "outline"]

_VERSION_TAG = 0xA0


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
    _, start, end = der.read(certificate)
    _, start, end = der.read(certificate, start)
    fields = der.children(certificate[start:end])
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
