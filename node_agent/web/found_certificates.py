"""What a search of the certificate store found, as one file (RFC 4387 section 2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from node_agent.web.backends import Download

if TYPE_CHECKING:
    from node_agent.web.backends import FoundCertificates

__all__ = ["MOST_CERTIFICATES", "found_download"]

MOST_CERTIFICATES = 100
"""A root with thousands of CAs below it must not make each stranger's query an answer of 10 MB."""

_TYPE = "application/pkix-cert"


def found_download(found: FoundCertificates, *, names_content: bool) -> Download | None:
    """Return one certificate as it is, several (the first MOST_CERTIFICATES) as multipart/mixed.

    ``names_content``: the query named a certificate itself, so that the answer never changes.
    """
    certificates, as_of = found.certificates[:MOST_CERTIFICATES], found.as_of
    if not certificates:
        return None
    if len(certificates) == 1:
        return _download(certificates[0], _TYPE, as_of, is_immutable=names_content)
    digest = hashlib.sha256(b"".join(certificates)).hexdigest()
    # A certificate can't hold the hash of itself.
    boundary = f"certificates-{digest[:32]}"
    parts = (
        f"--{boundary}\r\nContent-Type: {_TYPE}\r\n\r\n".encode() + certificate + b"\r\n"
        for certificate in certificates
    )
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return _download(body, f"multipart/mixed; boundary={boundary}", as_of, is_immutable=False)


def _download(data: bytes, content_type: str, as_of: int, *, is_immutable: bool) -> Download:
    return Download(
        data=data,
        content_type=content_type,
        etag=hashlib.sha256(data).hexdigest()[:32],
        last_modified=as_of,
        is_immutable=is_immutable,
    )
