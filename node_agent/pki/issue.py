"""Issuing: from an admitted request to a signed certificate.

Two steps, because a signature may be made elsewhere. ``prepare`` assembles the TBSCertificate from
parts of which most were encoded when the profile first met the issuer; ``ToBeSigned.complete``
puts a signature behind it. ``issue`` does both with a key that signs here and now, after the
structural checks of ``lint.check_to_be_signed``.

Times are whole seconds since the epoch. notAfter is inclusive (RFC 5280 section 4.1.2.5), never
beyond the issuer's, and notAfter - notBefore + 1 never exceeds the profile's validity.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.errors import RequestRefused
from node_agent.pki import crl_points, der, extensions, lint, usages
from node_agent.pki.names import AlternativeName, DistinguishedName, encode_name, format_name

if TYPE_CHECKING:
    from node_agent.pki.issuer import Issuer
    from node_agent.pki.keys import SigningKey
    from node_agent.pki.profile import AdmittedRequest, Profile

__all__ = [
    "Contents",
    "IssuedCertificate",
    "ToBeSigned",
    "assemble",
    "issue",
    "new_serial",
    "prepare",
    "sign",
    "validity_within",
]

_VERSION_3 = bytes.fromhex("a003020102")
_SERIAL_BYTES = 20
_MOST_REMEMBERED_PROFILES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A signed certificate and what is recorded of it. ``names`` are alternative names as text,
    ``crl_shard`` is the part of the CA's CRL that it names.
    """

    der: bytes
    authority_id: str
    serial: int
    subject: str
    names: tuple[str, ...]
    fingerprint_sha256: bytes
    not_before: int
    not_after: int
    profile: str
    crl_shard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a certificate says of its subject.

    ``static_extensions`` are DER, one after another; the subject key identifier and the
    alternative names are added to them.
    """

    subject: DistinguishedName
    names: tuple[AlternativeName, ...] = ()
    spki: bytes
    static_extensions: bytes
    profile: str
    is_ca: bool = False
    crl_shard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBeSigned:
    """A TBSCertificate (``der``) and the facts that it was made from. Sign it with ``key``."""

    der: bytes
    key: SigningKey
    algorithm: bytes
    issuer_name: bytes
    authority_id: str
    serial: int
    subject: DistinguishedName
    names: tuple[AlternativeName, ...]
    spki: bytes
    not_before: int
    not_after: int
    latest_not_after: int
    profile: str
    is_ca: bool = False
    crl_shard: int = 0

    def complete(self, signature: bytes) -> IssuedCertificate:
        """Return the certificate with ``signature``, which ``key`` made over ``der``."""
        encoded = der.sequence(self.der, self.algorithm, der.bit_string(signature))
        return IssuedCertificate(
            der=encoded,
            authority_id=self.authority_id,
            serial=self.serial,
            subject=format_name(self.subject),
            names=tuple(value for _, value in self.names),
            fingerprint_sha256=hashlib.sha256(encoded).digest(),
            not_before=self.not_before,
            not_after=self.not_after,
            profile=self.profile,
            crl_shard=self.crl_shard,
        )


def new_serial() -> int:
    """Return a random serial number of 159 bits: positive, and 20 octets at most (RFC 5280)."""
    while True:
        serial = int.from_bytes(secrets.token_bytes(_SERIAL_BYTES), "big") >> 1
        # A serial of 64 bits or fewer has a chance of 2 ** -95; it would only look predictable.
        if serial >> 64:
            return serial


def prepare(
    issuer: Issuer, request: AdmittedRequest, *, now: int, serial: int | None = None
) -> ToBeSigned:
    """Return what has to be signed for ``request``.

    Raises RequestRefused when the issuer's certificate is not valid now or the key is its own.
    """
    profile = request.profile
    not_before, not_after = validity_within(
        issuer,
        now=now,
        validity_seconds=profile.validity_seconds,
        backdate_seconds=profile.backdate_seconds,
        requested_seconds=request.validity_seconds,
    )
    serial = new_serial() if serial is None else serial
    shard = issuer.crl_shard(serial) if profile.include_crl_url else 0
    static = issuer.static_extensions.get((profile, request.key_kind, shard))
    if static is None:
        static = _static_extensions(issuer, profile, request.key_kind, shard)
    contents = Contents(
        subject=request.subject,
        names=request.alternative_names,
        spki=request.spki,
        static_extensions=static,
        profile=profile.name,
        crl_shard=shard,
    )
    return assemble(issuer, contents, validity=(not_before, not_after), serial=serial)


def issue(issuer: Issuer, request: AdmittedRequest, *, now: int) -> IssuedCertificate:
    """Prepare, check and sign here. Raises RequestRefused, LintFailed, TokenError."""
    return sign(prepare(issuer, request, now=now))


def sign(to_be_signed: ToBeSigned) -> IssuedCertificate:
    """Check and sign with the key at hand. Raises LintFailed, TokenError."""
    lint.check_to_be_signed(to_be_signed)
    return to_be_signed.complete(to_be_signed.key.sign(to_be_signed.der))


def validity_within(
    issuer: Issuer,
    *,
    now: int,
    validity_seconds: int,
    backdate_seconds: int,
    requested_seconds: int | None = None,
) -> tuple[int, int]:
    """Return notBefore and notAfter inside the issuer's validity.

    ``requested_seconds`` counts from now and only shortens. Raises RequestRefused when the
    issuer's certificate has ended or not begun.
    """
    if not issuer.not_before <= now < issuer.not_after:
        raise RequestRefused(
            "the CA's certificate is not valid now",
            field="authority",
            remedy="renew the CA's certificate, or correct the clock",
        )
    not_before = max(now - backdate_seconds, issuer.not_before)
    not_after = not_before + validity_seconds - 1
    if requested_seconds is not None:
        not_after = min(not_after, now + requested_seconds - 1)
    return not_before, min(not_after, issuer.not_after)


def assemble(
    issuer: Issuer,
    contents: Contents,
    *,
    validity: tuple[int, int],
    serial: int | None = None,
) -> ToBeSigned:
    """Return a TBSCertificate of ``issuer``; ``validity`` is notBefore and notAfter.

    Raises RequestRefused for the CA's own key: two certificates of one key with different powers
    are how chains get confused.
    """
    if contents.spki == issuer.spki:
        raise RequestRefused(
            "the key is the CA's own", field="key", remedy="generate a key for the certificate"
        )
    serial = new_serial() if serial is None else serial
    not_before, not_after = validity
    encoded = der.sequence(
        _VERSION_3,
        der.integer(serial),
        issuer.algorithm,
        issuer.name,
        der.sequence(der.x509_time(not_before), der.x509_time(not_after)),
        encode_name(contents.subject),
        contents.spki,
        _extensions(contents),
    )
    return ToBeSigned(
        der=encoded,
        key=issuer.key,
        algorithm=issuer.algorithm,
        issuer_name=issuer.name,
        authority_id=issuer.authority_id,
        serial=serial,
        subject=contents.subject,
        names=contents.names,
        spki=contents.spki,
        not_before=not_before,
        not_after=not_after,
        latest_not_after=issuer.not_after,
        profile=contents.profile,
        is_ca=contents.is_ca,
        crl_shard=contents.crl_shard,
    )


def _extensions(contents: Contents) -> bytes:
    key_id = extensions.subject_key_identifier(extensions.key_identifier(contents.spki))
    san = extensions.subject_alternative_name(contents.names, critical=not contents.subject)
    return der.context(3, der.sequence(contents.static_extensions, key_id, san), constructed=True)


def _static_extensions(issuer: Issuer, profile: Profile, key_kind: str, shard: int) -> bytes:
    """Encode and remember what all certificates of this profile, key kind and shard have in
    common.
    """
    crl_urls = crl_points.full_urls(issuer.crl_urls, shard) if profile.include_crl_url else ()
    encoded = b"".join(
        (
            extensions.authority_key_identifier(issuer.key_id),
            extensions.basic_constraints(ca=False),
            usages.key_usage_extension(usages.usable_bits(profile.key_usage, key_kind)),
            usages.extended_key_usage_extension(profile.extended_key_usage),
            extensions.certificate_policies(profile.policies),
            extensions.authority_information_access(
                issuer.ocsp_urls if profile.include_ocsp_url else (),
                issuer.issuer_urls if profile.include_issuer_url else (),
            ),
            extensions.crl_distribution_points(crl_urls),
        )
    )
    # Changed profiles leave their predecessors behind; an issuer outlives many changes.
    if len(issuer.static_extensions) >= _MOST_REMEMBERED_PROFILES:
        issuer.static_extensions.clear()
    issuer.static_extensions[profile, key_kind, shard] = encoded
    return encoded
