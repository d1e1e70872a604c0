"""Certify authenticators: the Management CA's one job, done only on local request.

Names come from whoever runs this node, never from the CSR: a node that asks under another's name
gets nothing by it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from node_agent.errors import ConfigError, NotFound
from node_agent.functions.certificate_records import Provenance, audit_detail, issued_row
from node_agent.functions.encoding import certificate_pem, chain_pem, pem
from node_agent.identity import NodeIdentity
from node_agent.pki.authorities import prepare_authenticator, prepare_server
from node_agent.pki.csr import Csr, parse_csr
from node_agent.store.records import (
    AuditRecord,
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    NameMatch,
)
from node_agent.web.backends import ManagementCertificate, ManagementCertificateOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.functions.signal import ChangeSignal
    from node_agent.pki.issue import ToBeSigned
    from node_agent.store.api import Writer

__all__ = ["Certification"]

_SECONDS_PER_DAY = 86400
# Long enough that a host switched off over a holiday still comes up, short enough that a lost one
# ends by itself.
_VALIDITY_SECONDS = 90 * _SECONDS_PER_DAY


class Certification:
    """Issue (or return) authenticator certificates."""

    def __init__(
        self,
        *,
        node: NodeIdentity,
        store: Writer,
        authorities: Authorities,
        changed: ChangeSignal,
        clock: Clock,
    ) -> None:
        self._node = node
        self._store = store
        self._authorities = authorities
        self._changed = changed
        self._clock = clock

    async def certify(
        self, order: ManagementCertificateOrder, *, dry_run: bool, caller: str
    ) -> ManagementCertificate:
        """Return a certificate for the order's key and names: the one that exists while it has
        longer to live than ``renew_before_days``, else a new one.

        Raises NotFound for an authority that isn't a Management CA, CsrRefused, ConfigError.
        """
        authority = self._management_authority(order.authority)
        csr = parse_csr(order.csr.encode())
        _check_names(order)
        existing = await self._existing(authority, order, csr)
        if existing is not None:
            return await self._answer(authority, existing, changed=False)
        prepared = self._prepare(authority, order, csr)
        if dry_run:
            return ManagementCertificate(
                changed=True,
                certificate="",
                trust_anchors=(certificate_pem(authority.chain[-1]),),
                crl=None,
                serial="",
                not_after=prepared.not_after,
            )
        record = await self._issue(prepared, order, caller)
        return await self._answer(authority, record, changed=True)

    def _management_authority(self, name: str) -> LoadedAuthority:
        authority = self._authorities.get(name)
        if authority.spec.kind != "management":
            raise NotFound(f"{name!r} is not a management CA")
        return authority

    async def _existing(
        self, authority: LoadedAuthority, order: ManagementCertificateOrder, csr: Csr
    ) -> CertificateRecord | None:
        names = _names(order)
        query = CertificateQuery(
            authority_ids=(authority.authority_id,),
            name=names[0],
            name_match=NameMatch.EXACT,
            status=CertificateStatus.GOOD,
        )
        until = self._clock.now() + order.renew_before_days * _SECONDS_PER_DAY
        for record in await self._store.search(query):
            is_alike = record.not_after > until and set(record.names) == set(names)
            if is_alike and record.der and _spki(record.der) == csr.spki:
                return record
        return None

    def _prepare(
        self, authority: LoadedAuthority, order: ManagementCertificateOrder, csr: Csr
    ) -> ToBeSigned:
        now = int(self._clock.now())
        if order.purpose == "peer":
            assert order.identity is not None
            return prepare_authenticator(
                authority.issuer,
                csr.spki,
                NodeIdentity.parse(order.identity),
                now=now,
                validity_seconds=_VALIDITY_SECONDS,
            )
        return prepare_server(
            authority.issuer,
            csr.spki,
            dns_names=order.dns_names,
            ip_addresses=order.ip_addresses,
            now=now,
            validity_seconds=_VALIDITY_SECONDS,
        )

    async def _issue(
        self, prepared: ToBeSigned, order: ManagementCertificateOrder, caller: str
    ) -> CertificateRecord:
        now = self._clock.now()
        issued = await self._authorities.sign(prepared)
        provenance = Provenance(
            requester=caller,
            origin=self._node.uri,
            via="",
            request_id=secrets.token_bytes(16),
            request_digest=issued.fingerprint_sha256,
        )
        record, payload = issued_row(issued, issued_at=int(now), provenance=provenance)
        audit = AuditRecord(
            at=now,
            action="manage.certify",
            allowed=True,
            chain=caller,
            resources=(f"/ca/{order.authority}",),
            detail=audit_detail(record),
        )
        outcome = await self._store.record_issuance(record, payload, audit)
        self._changed.announce()
        return outcome.certificate

    async def _answer(
        self, authority: LoadedAuthority, record: CertificateRecord, *, changed: bool
    ) -> ManagementCertificate:
        crl = await self._store.latest_crl(authority.authority_id)
        return ManagementCertificate(
            changed=changed,
            certificate=chain_pem((record.der, *authority.chain_below_root)),
            trust_anchors=(certificate_pem(authority.chain[-1]),),
            crl=pem("X509 CRL", crl.der) if crl and crl.der else None,
            serial=f"{record.serial:x}",
            not_after=record.not_after,
        )


def _check_names(order: ManagementCertificateOrder) -> None:
    if order.purpose == "peer":
        if order.identity is None or order.dns_names or order.ip_addresses:
            raise ConfigError(
                "a peer certificate names an identity and nothing else",
                where="identity",
                remedy="give spiffe://<trust-domain>/node/<name>, no DNS names or IP addresses",
            )
        NodeIdentity.parse(order.identity)
    elif order.identity is not None or not (order.dns_names or order.ip_addresses):
        raise ConfigError(
            "a server certificate names DNS names or IP addresses and no identity",
            where="dns_names",
        )


def _names(order: ManagementCertificateOrder) -> list[str]:
    names: Iterable[str] = (
        [order.identity]
        if order.identity is not None
        else [*(name.lower() for name in order.dns_names), *order.ip_addresses]
    )
    return list(names)


def _spki(der: bytes) -> bytes:
    return (
        x509.load_der_x509_certificate(der)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
