"""Key usages, extended key usages, and which key can serve which usage."""

from __future__ import annotations

from node_agent.pki import der

__all__ = [
    "CLIENT_AUTH",
    "EXTENDED_KEY_USAGES",
    "KEY_USAGES",
    "OCSP_SIGNING",
    "SERVER_AUTH",
    "TIME_STAMPING",
    "extended_key_usage_extension",
    "key_usage_extension",
    "usable_bits",
]

# RFC 5280 section 4.2.1.3.
KEY_USAGES = {
    "digital_signature": 0,
    "non_repudiation": 1,
    "content_commitment": 1,
    "key_encipherment": 2,
    "data_encipherment": 3,
    "key_agreement": 4,
    "key_cert_sign": 5,
    "crl_sign": 6,
    "encipher_only": 7,
    "decipher_only": 8,
}
CA_BITS = frozenset({5, 6})

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"
EXTENDED_KEY_USAGES = {
    "server_auth": SERVER_AUTH,
    "client_auth": CLIENT_AUTH,
    "code_signing": "1.3.6.1.5.5.7.3.3",
    "email_protection": "1.3.6.1.5.5.7.3.4",
    "time_stamping": TIME_STAMPING,
    "ipsec_ike": "1.3.6.1.5.5.7.3.17",
    "document_signing": "1.3.6.1.5.5.7.3.36",
    "pkinit_client": "1.3.6.1.5.2.3.4",
    "pkinit_kdc": "1.3.6.1.5.2.3.5",
    "smart_card_logon": "1.3.6.1.4.1.311.20.2.2",
}


def usable_bits(bits: frozenset[int], key_kind: str) -> frozenset[int]:
    """Return those usages that a key of ``key_kind`` can serve.

    RSA encrypts but doesn't agree (RFC 3279 section 2.3.1), EC agrees but doesn't encrypt
    (RFC 5480 section 3), Ed25519 and ML-DSA only sign (RFC 8410 section 5, RFC 9881 section 3).
    """
    if key_kind.startswith("rsa-"):
        return bits - {4, 7, 8}
    if key_kind.startswith("ec-"):
        return bits - {2, 3}
    return bits - {2, 3, 4, 7, 8}


def key_usage_extension(bits: frozenset[int]) -> bytes:
    """Return the critical KeyUsage extension, or nothing for no bits."""
    return der.extension("2.5.29.15", der.named_bits(bits), critical=True) if bits else b""


def extended_key_usage_extension(purposes: tuple[str, ...]) -> bytes:
    """Return the ExtendedKeyUsage extension, or nothing for no purpose.

    Critical only where RFC 3161 section 2.3 demands it.
    """
    if not purposes:
        return b""
    value = der.sequence(*(der.oid(purpose) for purpose in purposes))
    return der.extension("2.5.29.37", value, critical=TIME_STAMPING in purposes)
