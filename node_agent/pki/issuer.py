"""An issuing CA as the signing code sees it: certificate, key and everything encoded ahead."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from node_agent.errors import ConfigError, RequestRefused
from node_agent.pki import der, extensions
from node_agent.pki.keys import SigningKey, algorithm_identifier
from node_agent.pki.names import authority_id, normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.pki.profile import Profile

__all__ = ["Issuer", "validate_urls"]


@dataclass(frozen=True, slots=True, eq=False)
class Issuer:
    """A CA that can sign. ``chain`` is its own certificate and those above it, the root last.

    ``name`` and ``spki`` are DER as they stand in the certificate. ``static_extensions`` remembers
    what certificates of one profile and key kind have in common.
    """

    key: SigningKey
    chain: tuple[bytes, ...]
    name: bytes
    spki: bytes
    key_id: bytes
    authority_id: str
    algorithm: bytes
    not_before: int
    not_after: int
    path_length: int | None
    ocsp_urls: tuple[str, ...]
    issuer_urls: tuple[str, ...]
    crl_urls: tuple[str, ...]
    crl_shards: int = 0
    static_extensions: dict[tuple[Profile, str, int], bytes] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def load(
        cls,
        key: SigningKey,
        chain: Sequence[bytes],
        *,
        ocsp_urls: Sequence[str] = (),
        issuer_urls: Sequence[str] = (),
        crl_urls: Sequence[str] = (),
        crl_shards: int = 0,
    ) -> Issuer:
        """Return the issuer whose certificate (DER) is ``chain[0]``, signing with ``key``.

        Raises ConfigError when the certificate isn't a CA's, or isn't of this key.
        """
        certificate = _load_ca_certificate(chain[0])
        name, spki = _name_and_spki(certificate)
        if spki != key.spki:
            raise ConfigError("the CA certificate belongs to another key than the CA's")
        return cls(
            key=key,
            chain=tuple(chain),
            name=name,
            spki=spki,
            key_id=_subject_key_id(certificate, spki),
            authority_id=authority_id(name, spki),
            algorithm=algorithm_identifier(key.kind),
            not_before=int(certificate.not_valid_before_utc.timestamp()),
            not_after=int(certificate.not_valid_after_utc.timestamp()),
            path_length=_path_length(certificate),
            ocsp_urls=validate_urls(ocsp_urls, "ocsp_urls"),
            issuer_urls=validate_urls(issuer_urls, "issuer_urls"),
            crl_urls=validate_urls(crl_urls, "crl_urls"),
            crl_shards=crl_shards,
        )

    @property
    def certificate(self) -> bytes:
        """The CA's own certificate, DER."""
        return self.chain[0]

    def crl_shard(self, serial: int) -> int:
        """Return which part of the CRL a new certificate belongs to: 1, 2, …; 0 without parts.

        Serials are random, so parts are of about one size. The answer holds for a new certificate
        only: it changes with the number of parts.
        """
        return serial % self.crl_shards + 1 if self.crl_shards else 0

    @property
    def fingerprint_sha256(self) -> str:
        """SHA-256 of the CA's certificate in lower-case hexadecimal."""
        return hashlib.sha256(self.certificate).hexdigest()


def validate_urls(urls: Iterable[str], field_name: str) -> tuple[str, ...]:
    """Return ``urls`` as certificates carry them. Raises ConfigError unless each is an http URL.

    Plain http is right here: what is fetched is signed, and fetching it over TLS would need it
    (RFC 5280 section 8).
    """
    for url in urls:
        try:
            normalize("uri", url)
        except RequestRefused as error:
            raise ConfigError(
                error.detail, where=field_name, remedy="write http://host/…"
            ) from error
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no http URL", where=field_name, remedy="write http://…")
    return tuple(urls)


def _load_ca_certificate(encoded: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise ConfigError("the CA certificate can't be used to sign") from error
    if not (constraints.ca and usage.key_cert_sign):
        raise ConfigError("the certificate is not a CA's")
    return certificate


def _name_and_spki(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Return subject and SubjectPublicKeyInfo octet for octet: what is issued must repeat them."""
    fields = [whole for _, _, whole in der.children(_tbs_content(certificate))]
    return fields[5], fields[6]


def _tbs_content(certificate: x509.Certificate) -> bytes:
    return der.read_all(certificate.tbs_certificate_bytes, der.SEQUENCE)


def _subject_key_id(certificate: x509.Certificate, spki: bytes) -> bytes:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return extensions.key_identifier(spki)
    return found.value.digest


def _path_length(certificate: x509.Certificate) -> int | None:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    return constraints.value.path_length
