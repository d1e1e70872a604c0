"""Issuers of other trust domains: whose certificates prove nodes that our own Management CA didn't
certify, and which nodes those may be.

A trust domain has one issuer, and an issuer has one trust domain. Whoever holds a tenant's CA can
make any name of the tenant's domain and none of anybody else's, ours included (the bundle of a
SPIFFE trust domain is scoped alike).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity
from node_agent.net.crls import check_crls

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PeerIssuer"]


@dataclass(frozen=True, slots=True)
class PeerIssuer:
    """The CAs that sign the authenticators of ``trust_domain`` themselves, and their CRLs.

    Nothing may stand between a trust anchor and an authenticator: a pin of the form
    serial@issuer goes by the issuer's name, and below its own CA a tenant chooses names freely.
    """

    trust_domain: str
    trust_anchors: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    @classmethod
    def from_pem(
        cls, trust_domain: str, trust_anchors: Sequence[str], crls: Sequence[str], *, where: str
    ) -> PeerIssuer:
        """Return the issuer that PEM texts describe. Raises ConfigError naming ``where`` and the
        part at fault.
        """
        _check_trust_domain(trust_domain, f"{where}.trust_domain")
        anchors = tuple(
            certificate
            for index, text in enumerate(trust_anchors)
            for certificate in _read_anchors(text, f"{where}.trust_anchors[{index}]")
        )
        if not anchors:
            raise ConfigError(
                "are missing",
                where=f"{where}.trust_anchors",
                remedy="give the CA certificate that signs the nodes' authenticators",
            )
        lists = tuple(_read_crl(text, f"{where}.crls[{index}]") for index, text in enumerate(crls))
        check_crls(lists, anchors, where=f"{where}.crls")
        return cls(trust_domain, anchors, lists)


def _check_trust_domain(trust_domain: str, where: str) -> None:
    try:
        NodeIdentity(trust_domain, "node")
    except ConfigError as error:
        raise error.within(where) from error


def _read_anchors(text: str, where: str) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
        for certificate in certificates:
            if not _is_authority(certificate):
                raise ConfigError(
                    f"{certificate.subject.rfc4514_string()} isn't a CA",
                    where=where,
                    remedy="give the certificate of the CA, not of a node",
                )
    except ValueError as error:
        raise ConfigError(f"isn't readable PEM: {error}", where=where) from error
    return certificates


def _read_crl(text: str, where: str) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(text.encode())
    except ValueError as error:
        raise ConfigError(f"isn't readable PEM: {error}", where=where) from error


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
