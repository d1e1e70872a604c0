"""Revocation of peer certificates by the CRLs that this node holds (RFC 5280, section 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID

from node_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

__all__ = [
    "RevocationLists",
    "check_crls",
    "crl_fault",
    "crl_number",
    "is_crl_of",
    "next_update_of",
]

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    }
)


class RevocationLists:
    """Answers whether a certificate is revoked; each CRL is verified once per issuer."""

    def __init__(
        self, crls: Iterable[x509.CertificateRevocationList], *, required: bool = False
    ) -> None:
        self._required = required
        self._by_issuer: dict[x509.Name, list[x509.CertificateRevocationList]] = {}
        self._chosen: dict[x509.Certificate, _RevokedSerials | None] = {}
        for crl in crls:
            self._by_issuer.setdefault(crl.issuer, []).append(crl)

    def fault_of(
        self, certificate: x509.Certificate, issuer: x509.Certificate, now: float
    ) -> str | None:
        """Return why ``certificate`` can't be accepted, None if it isn't known as revoked."""
        if issuer not in self._chosen:
            self._chosen[issuer] = self._choose(issuer)
        revoked = self._chosen[issuer]
        if revoked is None:
            return self._absence_fault(issuer)
        if certificate.serial_number in revoked.serials:
            return f"certificate {certificate.serial_number:x} is revoked"
        if self._required and now > revoked.next_update:
            return f"the CRL of {issuer.subject.rfc4514_string()} is out of date"
        return None

    def _absence_fault(self, issuer: x509.Certificate) -> str | None:
        if not self._required:
            return None
        return f"no usable CRL of {issuer.subject.rfc4514_string()}"

    def _choose(self, issuer: x509.Certificate) -> _RevokedSerials | None:
        usable = [crl for crl in self._by_issuer.get(issuer.subject, ()) if is_crl_of(crl, issuer)]
        newest = max(usable, key=lambda crl: crl.last_update_utc, default=None)
        return None if newest is None else _RevokedSerials(newest)


class _RevokedSerials:
    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        self.serials = frozenset(entry.serial_number for entry in crl)
        self.next_update = next_update_of([crl])


def check_crls(
    crls: Iterable[x509.CertificateRevocationList],
    issuers: Sequence[x509.Certificate],
    *,
    where: str,
) -> None:
    """Raise ConfigError unless each of ``crls`` can be used, and one of ``issuers`` signed it."""
    for crl in crls:
        fault = crl_fault(crl)
        if fault is None and not any(is_crl_of(crl, issuer) for issuer in issuers):
            fault = "no trusted CA signed it"
        if fault is not None:
            raise ConfigError(
                f"the CRL of {crl.issuer.rfc4514_string()} can't be used: {fault}", where=where
            )


def is_crl_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether ``crl`` is a complete CRL that ``issuer`` was allowed to sign and did sign."""
    if crl.issuer != issuer.subject or crl_fault(crl) is not None:
        return False
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    # A key that can't sign CRLs at all raises TypeError.
    key: CertificateIssuerPublicKeyTypes = issuer.public_key()  # type: ignore[assignment]
    try:
        return crl.is_signature_valid(key)
    except (TypeError, UnsupportedAlgorithm):
        return False


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return the CRL's number, 0 where it has none (RFC 5280, 5.2.3 asks for one)."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def next_update_of(crls: Iterable[x509.CertificateRevocationList]) -> float:
    """Return until when all of ``crls`` are current, in seconds since the epoch."""
    # RFC 5280, 5.1.2.5 makes nextUpdate mandatory; without one a list is never current.
    ends = (0.0 if (end := crl.next_update_utc) is None else end.timestamp() for crl in crls)
    return min(ends, default=float("inf"))


def crl_fault(crl: x509.CertificateRevocationList) -> str | None:
    """Return why ``crl`` can't be used at all: delta, indirect, partitioned, or not understood."""
    try:
        signed_with = crl.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "it is signed with an algorithm that isn't known"
    if isinstance(signed_with, hashes.MD5 | hashes.SHA1):
        return f"it is signed with {signed_with.name}"
    for extension in crl.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            if _is_partial(extension.value):
                return "it doesn't cover all certificates of its issuer"
        elif extension.critical and extension.oid not in _UNDERSTOOD:
            return f"critical extension {extension.oid.dotted_string} isn't understood"
    for entry in crl:
        for extension in entry.extensions:
            if extension.critical and extension.oid != x509.CRLReason.oid:
                return f"critical entry extension {extension.oid.dotted_string} isn't understood"
    return None


def _is_partial(point: x509.IssuingDistributionPoint) -> bool:
    return bool(
        point.indirect_crl
        or point.only_contains_user_certs
        or point.only_contains_ca_certs
        or point.only_contains_attribute_certs
        or point.only_some_reasons
        or point.full_name
        or point.relative_name
    )
