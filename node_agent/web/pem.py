"""PEM (RFC 7468) at the web edge: certificates out, certification requests in."""

from __future__ import annotations

import binascii
import functools
import re
import ssl

from node_agent.errors import CsrRefused

__all__ = ["decode_csr", "pem_certificate", "pem_chain"]

# "NEW CERTIFICATE REQUEST" is what older Microsoft and Netscape programs write.
_CSR = re.compile(
    r"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----(?P<body>[^-]*)"
    r"-----END (?:NEW )?CERTIFICATE REQUEST-----"
)


def pem_certificate(der: bytes) -> str:
    """Return one certificate as PEM."""
    return ssl.DER_cert_to_PEM_cert(der)


@functools.lru_cache(maxsize=256)
def pem_chain(chain_der: tuple[bytes, ...]) -> str:
    """Return CA certificates as concatenated PEM; kept, because a CA's chain is asked for often."""
    return "".join(map(ssl.DER_cert_to_PEM_cert, chain_der))


def decode_csr(text: str) -> bytes:
    """Return the DER in ``text``: PEM, or bare base64. Raises CsrRefused; the DER isn't parsed."""
    if "-----" in text:
        match = _CSR.search(text)
        if match is None:
            raise _refused("holds no CERTIFICATE REQUEST block")
        text = match["body"]
    try:
        der = binascii.a2b_base64("".join(text.split()).encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _refused(f"is not base64: {error}") from error
    if not der:
        raise _refused("is empty")
    return der


def _refused(detail: str) -> CsrRefused:
    remedy = "send the PEM that `openssl req -new` prints, or base64 of its DER"
    return CsrRefused(detail, field="csr", remedy=remedy)
