"""The node's authenticators in force: TLS identities for peer links, a context for the REST port.

A certificate, trust anchor or CRL that changes is put in force at once, on links that are up too.
CRLs come from the authenticator's specification and, newer ones, over peer links.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

from node_agent.errors import ConfigError, NodeAgentError
from node_agent.functions.node_objects import (
    AuthenticatorState,
    ManagedObject,
    NodeObjects,
    decode_state,
)
from node_agent.functions.peer_issuers import read_issuer
from node_agent.net.crls import crl_number, is_crl_of, next_update_of
from node_agent.net.tls import IdentityHolder, TlsIdentity
from node_agent.objects import (
    TLS_KEY_KINDS,
    AuthenticatorSpec,
    PeerIssuerSpec,
    RequesterSpec,
)
from node_agent.pki.names import authority_id
from node_agent.pki.outline import outline
from node_agent.web.tls import check_client_trust_anchors, rest_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.tokens import Tokens
    from node_agent.identity import NodeIdentity
    from node_agent.net.issuers import PeerIssuer

__all__ = ["Identities", "check_certificate"]

log = structlog.get_logger(__name__)

_MAX_REMEMBERED = 4096
# What is raised for a key, certificate or CRL that was stored and can't be used.
_UNUSABLE = (NodeAgentError, ValueError, TypeError, ssl.SSLError, UnsupportedAlgorithm)


class Identities:
    """One IdentityHolder for each certified ``peer`` authenticator, by name."""

    def __init__(self, node: NodeIdentity, tokens: Tokens, clock: Clock) -> None:
        self._node = node
        self._tokens = tokens
        self._clock = clock
        self._holders: dict[str, IdentityHolder] = {}
        self._in_force: dict[str, tuple[object, ...]] = {}
        self._crls: dict[x509.Name, x509.CertificateRevocationList] = {}
        self._peer_issuers: dict[str, PeerIssuer] = {}
        self.anchor_ids: frozenset[str] = frozenset()
        """The authority ids of every trust anchor of authenticators and peer issuers: of all CAs
        that the node knows, only the CRLs of these matter to its links.
        """
        self.faults: dict[str, str] = {}
        """Why authenticators and peer issuers, by ``kind.name``, couldn't be put in force."""
        self.requester_faults: dict[str, str] = {}
        """The same of requesters, whose trust anchors the REST port does without."""

    def holder(self, name: str) -> IdentityHolder | None:
        """Return the holder of the authenticator ``name``, None until it is certified."""
        return self._holders.get(name)

    @property
    def first(self) -> IdentityHolder | None:
        """The identity with which this node listens and signs: its first peer authenticator."""
        return next(iter(self._holders.values()), None)

    def crl_ends(self) -> dict[str, float]:
        """Return until when the CRLs in force are current, by object (``kind.name``)."""
        crls = {
            **{f"authenticators.{name}": held.current.crls for name, held in self._holders.items()},
            **{f"peer_issuers.{name}": issuer.crls for name, issuer in self._peer_issuers.items()},
        }
        return {what: next_update_of(lists) for what, lists in crls.items() if lists}

    def overdue(self) -> Iterator[str]:
        """Yield of which objects the CRLs in force are overdue. They revoke what they list all the
        same, but what was revoked since isn't on them.
        """
        now = self._clock.now()
        for what, end in self.crl_ends().items():
            if end < now:
                at = datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds")
                yield f"{what}: a CRL in force should have been replaced by {at}"

    def configure(self, objects: NodeObjects) -> None:
        """Put every certified peer authenticator in force, and forget deleted ones. One that can't
        be leaves in force what was.
        """
        wanted = {
            item.name: item
            for item in objects.all("authenticators")
            if isinstance(item.spec, AuthenticatorSpec)
            and item.spec.purpose == "peer"
            and item.spec.certificate
        }
        for gone in set(self._holders) - set(wanted):
            del self._holders[gone], self._in_force[gone]
        self.anchor_ids = frozenset(_authority_id(anchor) for anchor in _trust_anchors(objects))
        self.faults = {}
        issuers = self._issuers(objects) if wanted else ()
        for name, item in wanted.items():
            try:
                self._put_in_force(name, item, issuers)
            except _UNUSABLE as error:
                self.faults[f"authenticators.{name}"] = str(error)

    def learn_crl(self, der: bytes, objects: NodeObjects) -> None:
        """Take over a full CRL if a trust anchor signed it and it is newer than what is known."""
        crl = x509.load_der_x509_crl(der)
        if any(item.oid == ExtensionOID.DELTA_CRL_INDICATOR for item in crl.extensions):
            return
        # By the key: a CA of a trust anchor's name must not put its list in the anchor's place.
        if not any(is_crl_of(crl, anchor) for anchor in _trust_anchors(objects)):
            return
        known = self._crls.get(crl.issuer)
        if known is not None and crl_number(known) >= crl_number(crl):
            return
        self._crls[crl.issuer] = crl
        self.configure(objects)

    def _put_in_force(self, name: str, item: ManagedObject, issuers: Sequence[PeerIssuer]) -> None:
        identity = self._build(item, issuers)
        mark = (
            *(identity.chain_der, identity.trust_anchors, identity.crls),
            *(identity.peer_issuers, identity.require_current_crl),
        )
        if self._in_force.get(name) == mark:
            return
        self._in_force[name] = mark
        holder = self._holders.get(name)
        if holder is None:
            self._holders[name] = IdentityHolder(identity)
        else:
            holder.replace(identity)
        log.info(
            "authenticator in force",
            authenticator=name,
            serial=f"{identity.certificate.serial_number:x}",
        )

    def _issuers(self, objects: NodeObjects) -> tuple[PeerIssuer, ...]:
        """Return the peer issuers, each with the newest CRLs that are known of it."""
        found: dict[str, PeerIssuer] = {}
        for spec in objects.specs("peer_issuers", PeerIssuerSpec):
            try:
                found[spec.name] = self._with_newest_crls(read_issuer(spec))
            except ConfigError as error:
                self.faults[f"peer_issuers.{spec.name}"] = str(error)
        self._peer_issuers = found
        return tuple(found.values())

    def _with_newest_crls(self, issuer: PeerIssuer) -> PeerIssuer:
        if not any(anchor.subject in self._crls for anchor in issuer.trust_anchors):
            return issuer
        newest = self._newest(issuer.crls, issuer.trust_anchors)
        return replace(issuer, crls=tuple(newest))

    def _build(self, item: ManagedObject, issuers: Sequence[PeerIssuer]) -> TlsIdentity:
        spec = item.spec
        assert isinstance(spec, AuthenticatorSpec)
        if spec.key_kind not in TLS_KEY_KINDS:
            raise ConfigError(f"TLS has no {spec.key_kind} keys", where="authenticator: key_kind")
        state = decode_state(item, AuthenticatorState)
        given = [x509.load_pem_x509_crl(text.encode()) for text in spec.crls]
        anchors = _load_all(spec.trust_anchors)
        return TlsIdentity(
            private_key=self._tokens.own(spec.crypto_token).private_key(state.key_label),
            chain=_load_all([spec.certificate or ""]),
            trust_anchors=anchors,
            crls=self._newest(given, anchors),
            peer_issuers=issuers,
            clock=self._clock,
            require_current_crl=spec.require_current_crl,
        )

    def _newest(
        self, given: Sequence[x509.CertificateRevocationList], anchors: Sequence[x509.Certificate]
    ) -> list[x509.CertificateRevocationList]:
        newest: dict[x509.Name, x509.CertificateRevocationList] = {}
        learned = [
            self._crls[anchor.subject]
            for anchor in anchors
            if anchor.subject in self._crls and _is_signed_by(self._crls[anchor.subject], anchor)
        ]
        for crl in (*given, *learned):
            known = newest.get(crl.issuer)
            if known is None or crl_number(known) < crl_number(crl):
                newest[crl.issuer] = crl
        return list(newest.values())

    def rest_context(self, objects: NodeObjects) -> ssl.SSLContext | None:
        """Return the TLS context of the REST port, None without a certified ``server``
        authenticator. Raises ConfigError when that can't be used.
        """
        for item in objects.all("authenticators"):
            spec = item.spec
            assert isinstance(spec, AuthenticatorSpec)
            if spec.purpose == "server" and spec.certificate:
                label = decode_state(item, AuthenticatorState).key_label
                return rest_context(
                    private_key=self._tokens.own(spec.crypto_token).private_key(label),
                    chain_pem=spec.certificate,
                    client_trust_anchors_pem=sorted(self._client_trust_anchors(objects)),
                )
        return None

    def _client_trust_anchors(self, objects: NodeObjects) -> set[str]:
        self.requester_faults = {}
        anchors: set[str] = set()
        for spec in objects.specs("requesters", RequesterSpec):
            try:
                check_client_trust_anchors(spec.client_trust_anchors)
            except _UNUSABLE as error:
                fault = f"client_trust_anchors: {error}"
                self.requester_faults[f"requesters.{spec.name}"] = fault
            else:
                anchors.update(spec.client_trust_anchors)
        return anchors


def check_certificate(
    spec: AuthenticatorSpec, spki: bytes, node: NodeIdentity, clock: Clock
) -> None:
    """Raise ConfigError unless the certificate given with ``spec``, whose content was checked, is
    one for this key and node.
    """
    if spec.certificate is None:
        return
    where = f"authenticators.{spec.name}"
    leaf = _load_all([spec.certificate])[0]
    public = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if public != spki:
        raise ConfigError(
            "is for another key than this authenticator's",
            where=f"{where}.certificate",
            remedy="certify the CSR in the authenticator's state",
        )
    if leaf.not_valid_after_utc.timestamp() <= clock.now():
        raise ConfigError(
            "has expired",
            where=f"{where}.certificate",
            remedy="ask the Management CA for a new one",
        )
    if not spec.trust_anchors:
        raise ConfigError("are missing", where=f"{where}.trust_anchors")
    if spec.purpose == "peer":
        _check_identity(leaf, node, where)


def _check_identity(leaf: x509.Certificate, node: NodeIdentity, where: str) -> None:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if uris != [node.uri]:
        raise ConfigError(
            f"names {', '.join(uris) or 'no identity'} instead of {node.uri}",
            where=f"{where}.certificate",
        )


def _trust_anchors(objects: NodeObjects) -> Iterator[x509.Certificate]:
    """Yield every trust anchor that can be read. Why another can't says who puts it in force."""
    for own in objects.specs("authenticators", AuthenticatorSpec):
        with contextlib.suppress(ValueError):
            yield from _load_all(own.trust_anchors)
    for issuer in objects.specs("peer_issuers", PeerIssuerSpec):
        with contextlib.suppress(ConfigError):
            yield from read_issuer(issuer).trust_anchors


@lru_cache(maxsize=_MAX_REMEMBERED)
def _authority_id(certificate: x509.Certificate) -> str:
    fields = outline(certificate.public_bytes(serialization.Encoding.DER))
    return authority_id(fields.subject, fields.spki)


def _load_all(texts: Iterable[str]) -> list[x509.Certificate]:
    return [
        certificate
        for text in texts
        for certificate in x509.load_pem_x509_certificates(text.encode())
    ]


def _is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        # A key that can't sign CRLs at all raises TypeError.
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):
        return False
