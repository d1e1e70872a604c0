"""A throwaway PKI for tests: sane defaults, so that a case shows only what is unusual about it.

::

    authority = ThrowawayAuthority()                       # a Management CA
    key, certificate = authority.authenticator("ra1")      # spiffe://test.example/node/ra1
    crl = authority.crl(revoked=[certificate])
    identity = authority.tls_identity("ra1", crls=[crl])   # node_agent.net.tls.TlsIdentity
    holder = authority.holder("ra1")                       # node_agent.net.tls.IdentityHolder

Anything in ``CertificateDraft`` can be overridden by keyword; ``None`` leaves an extension out.
Keys are P-256 and made on demand.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node_agent.clock import Clock, SystemClock
from node_agent.net.tls import IdentityHolder, TlsIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CA_KEY_USAGE",
    "LEAF_KEY_USAGE",
    "TRUST_DOMAIN",
    "CertificateDraft",
    "PrivateKey",
    "ThrowawayAuthority",
    "certificate_pem",
    "key_pem",
    "key_usage",
    "name",
]

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
TRUST_DOMAIN = "test.example"


def name(common_name: str) -> x509.Name:
    """Return ``O=Throwaway, CN=common_name``."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Throwaway"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def key_usage(*bits: str) -> x509.KeyUsage:
    """Return a KeyUsage with exactly the named bits set."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in bits for bit in every})


CA_KEY_USAGE = key_usage("key_cert_sign", "crl_sign")
LEAF_KEY_USAGE = key_usage("digital_signature")


@dataclass(slots=True)
class CertificateDraft:
    """What a certificate will say. Times are seconds relative to now."""

    subject: x509.Name
    san: Sequence[x509.GeneralName] | None = ()
    not_before_seconds: float = -3600
    not_after_seconds: float = 30 * 86400
    serial: int | None = None
    issuer: x509.Name | None = None
    basic_constraints: x509.BasicConstraints | None = field(
        default_factory=lambda: x509.BasicConstraints(ca=False, path_length=None)
    )
    key_usage: x509.KeyUsage | None = LEAF_KEY_USAGE
    extended_key_usage: Sequence[x509.ObjectIdentifier] | None = (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    )
    name_constraints: x509.NameConstraints | None = None
    extra_extensions: Sequence[tuple[x509.ExtensionType, bool]] = ()
    subject_key_identifier: bool = True
    authority_key_identifier: bool = True

    def extensions(self) -> Iterable[tuple[x509.ExtensionType, bool]]:
        """Yield the extensions that don't depend on keys, each with its criticality."""
        if self.basic_constraints is not None:
            yield self.basic_constraints, True
        if self.key_usage is not None:
            yield self.key_usage, True
        if self.extended_key_usage is not None:
            yield x509.ExtendedKeyUsage(self.extended_key_usage), False
        if self.name_constraints is not None:
            yield self.name_constraints, True
        if self.san:
            yield x509.SubjectAlternativeName(self.san), False
        yield from self.extra_extensions


class ThrowawayAuthority:
    """A CA for one test. Without ``parent`` it is a self-signed Management CA."""

    def __init__(
        self,
        common_name: str = "Test Management CA",
        *,
        parent: ThrowawayAuthority | None = None,
        clock: Clock | None = None,
        key: PrivateKey | None = None,
        **overrides: Any,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.key: PrivateKey = key or ec.generate_private_key(ec.SECP256R1())
        self.parent = parent
        draft = CertificateDraft(
            subject=name(common_name),
            basic_constraints=x509.BasicConstraints(ca=True, path_length=None),
            key_usage=CA_KEY_USAGE,
            extended_key_usage=None,
            not_after_seconds=3650 * 86400,
        )
        draft = replace(draft, **overrides)
        if parent is None:
            self.certificate = self._build(draft, self.key, draft.subject, self.key)
        else:
            self.certificate = parent.issue(draft, self.key)

    @property
    def chain(self) -> list[x509.Certificate]:
        """This CA's certificate and those above it, without the self-signed root."""
        return [self.certificate, *self.parent.chain] if self.parent else []

    @property
    def root(self) -> ThrowawayAuthority:
        """The self-signed CA at the top."""
        return self.parent.root if self.parent else self

    def issue(self, draft: CertificateDraft, key: PrivateKey) -> x509.Certificate:
        """Return a certificate for ``key`` signed by this CA."""
        return self._build(draft, key, self.certificate.subject, self.key)

    def authenticator(
        self,
        node: str,
        trust_domain: str = TRUST_DOMAIN,
        *,
        key: PrivateKey | None = None,
        **overrides: Any,
    ) -> tuple[PrivateKey, x509.Certificate]:
        """Return key and certificate of ``spiffe://<trust_domain>/node/<node>``."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        uri = f"spiffe://{trust_domain}/node/{node}"
        draft = CertificateDraft(subject=name(node), san=(x509.UniformResourceIdentifier(uri),))
        return key, self.issue(replace(draft, **overrides), key)

    def crl(
        self,
        revoked: Iterable[x509.Certificate | int] = (),
        *,
        number: int = 1,
        this_update_seconds: float = -60,
        next_update_seconds: float = 7 * 86400,
        signed_with: PrivateKey | None = None,
        extra_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.CertificateRevocationList:
        """Return a CRL of this CA that revokes the given certificates or serial numbers."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(self._at(this_update_seconds))
            .next_update(self._at(next_update_seconds))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_key_identifier(self.key), critical=False)
        )
        for extension, critical in extra_extensions:
            builder = builder.add_extension(extension, critical=critical)
        for entry in revoked:
            serial = entry if isinstance(entry, int) else entry.serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(self._at(this_update_seconds))
                .build()
            )
        key = signed_with or self.key
        return builder.sign(key, _hash_for(key))

    def tls_identity(
        self,
        node: str,
        *,
        trust_anchors: Sequence[x509.Certificate] | None = None,
        crls: Sequence[x509.CertificateRevocationList] = (),
        clock: Clock | None = None,
        **overrides: Any,
    ) -> TlsIdentity:
        """Return a fresh TLS identity for ``node``, trusting this PKI's root unless told else."""
        key, certificate = self.authenticator(node, **overrides)
        return TlsIdentity(
            private_key=key,
            chain=[certificate, *self.chain],
            trust_anchors=[self.root.certificate] if trust_anchors is None else trust_anchors,
            crls=crls,
            clock=clock or self.clock,
        )

    def holder(self, node: str, **overrides: Any) -> IdentityHolder:
        """Return an IdentityHolder that starts with ``tls_identity(node, **overrides)``."""
        return IdentityHolder(self.tls_identity(node, **overrides))

    def _at(self, seconds: float) -> datetime.datetime:
        now = datetime.datetime.fromtimestamp(int(self.clock.now()), tz=datetime.UTC)
        return now + datetime.timedelta(seconds=seconds)

    def _build(
        self, draft: CertificateDraft, key: PrivateKey, issuer: x509.Name, signer: PrivateKey
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(draft.subject)
            .issuer_name(draft.issuer or issuer)
            .public_key(key.public_key())
            .serial_number(draft.serial or x509.random_serial_number())
            .not_valid_before(self._at(draft.not_before_seconds))
            .not_valid_after(self._at(draft.not_after_seconds))
        )
        for extension, critical in draft.extensions():
            builder = builder.add_extension(extension, critical=critical)
        if draft.subject_key_identifier:
            identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        if draft.authority_key_identifier:
            builder = builder.add_extension(_key_identifier(signer), critical=False)
        return builder.sign(signer, _hash_for(signer))


def certificate_pem(*certificates: x509.Certificate) -> str:
    """Return the certificates as concatenated PEM."""
    pem = serialization.Encoding.PEM
    return "".join(certificate.public_bytes(pem).decode() for certificate in certificates)


def key_pem(key: PrivateKey) -> str:
    """Return the key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _key_identifier(key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _hash_for(key: PrivateKey) -> hashes.SHA256 | None:
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return None if edwards else hashes.SHA256()
