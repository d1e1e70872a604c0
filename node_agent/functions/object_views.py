"""Objects as the admin API shows them: the specification, and what the node made of it."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from node_agent.errors import NotFound
from node_agent.functions.encoding import certificate_pem, chain_pem, pem, reason_name
from node_agent.functions.node_objects import (
    AuthenticatorState,
    AuthorityState,
    ManagedObject,
    SignerState,
    decode_state,
    unknown,
)
from node_agent.functions.peer_issuers import read_issuer
from node_agent.net.crls import crl_number
from node_agent.objects import (
    AuthenticatorSpec,
    CertificationAuthoritySpec,
    CryptoTokenSpec,
    PeerConnectorSpec,
    PeerIssuerSpec,
    PublisherSpec,
    SignerSpec,
)
from node_agent.store.records import CertificateQuery, CertificateRecord, CertificateStatus
from node_agent.web.backends import CertificateFilter, CertificateInfo, CrlView, ObjectView

if TYPE_CHECKING:
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.functions.tokens import Tokens
    from node_agent.store.api import Reader

__all__ = ["LiveState", "ObjectViews", "needs_certificate"]

JsonObject = dict[str, Any]
_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
LiveState = Callable[[str, str], JsonObject]
"""Kind and name of an object to what the running part says of it."""


class ObjectViews:
    """Make views; keys and certificates are shown, private keys can't be: nothing here has one."""

    def __init__(
        self, *, tokens: Tokens, store: Reader, known: KnownAuthorities, live: LiveState
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._known = known
        self._live = live

    async def view(self, item: ManagedObject) -> ObjectView:
        """Return an object with its state."""
        spec: JsonObject = json.loads(msgspec.json.encode(item.spec))
        return ObjectView(spec=spec, state=await self._state(item))

    async def certificates(self, query: CertificateFilter) -> Sequence[CertificateInfo]:
        """Return matching certificates of this node, newest first."""
        ids: tuple[str, ...] | None = None
        if query.authority is not None:
            found = self._known.named(query.authority)
            ids = () if found is None else (found.authority_id,)
        records = await self._store.search(
            CertificateQuery(
                authority_ids=ids,
                name=query.name,
                status=CertificateStatus(query.status) if query.status else None,
                profile=query.profile,
                requester=query.requester,
                expires_before=query.expires_before,
                limit=query.limit,
            )
        )
        return [self._certificate(record) for record in records]

    async def certificate(self, authority: str, serial: int) -> CertificateInfo:
        """Return one certificate. Raises NotFound."""
        found = self._known_authority(authority)
        record = await self._store.certificate(found.authority_id, serial)
        if record is None:
            raise NotFound(f"there is no certificate {serial:x} of the CA {authority!r}")
        return self._certificate(record)

    async def crl(self, authority: str, *, delta: bool, shard: int) -> CrlView:
        """Return the newest CRL of a CA that this node knows. Raises NotFound."""
        found = self._known_authority(authority)
        crl = await self._store.latest_crl(found.authority_id, shard=shard, delta=delta)
        if crl is None:
            raise NotFound(f"there is no {'delta ' if delta else ''}CRL of the CA {authority!r}")
        return CrlView(
            authority=authority,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            crl=pem("X509 CRL", await self._store.crl_der(crl)),
            base_number=crl.base_number,
        )

    def _known_authority(self, name: str) -> KnownAuthority:
        found = self._known.named(name)
        if found is None:
            raise unknown(f"CA {name!r}", self._known.ids_by_name())
        return found

    def _certificate(self, record: CertificateRecord) -> CertificateInfo:
        authority = self._known.get(record.authority_id)
        return CertificateInfo(
            authority=authority.name if authority else record.authority_id,
            serial=f"{record.serial:x}",
            subject=record.subject,
            names=record.names,
            profile=record.profile,
            requester=record.requester,
            not_before=record.not_before,
            not_after=record.not_after,
            status=record.status.value,
            revoked_at=record.revoked_at,
            reason=reason_name(record.reason),
            certificate=certificate_pem(record.der) if record.der else None,
        )

    async def _state(self, item: ManagedObject) -> JsonObject:
        match item.spec:
            case CryptoTokenSpec(name=name):
                return {"keys": self._tokens.labels(name), **self._of_live(item)}
            case AuthenticatorSpec() as spec:
                return _authenticator(item, spec)
            case CertificationAuthoritySpec():
                return await self._authority(item)
            case SignerSpec():
                return {**_signer(item), **self._of_live(item)}
            case PeerIssuerSpec() as spec:
                return _peer_issuer(spec)
            case PeerConnectorSpec() | PublisherSpec():
                return self._of_live(item)
            case _:
                return {"generation": item.generation}

    def _of_live(self, item: ManagedObject) -> JsonObject:
        return self._live(item.kind, item.name)

    async def _authority(self, item: ManagedObject) -> JsonObject:
        state = decode_state(item, AuthorityState)
        certificate = x509.load_der_x509_certificate(state.chain[0])
        crl = await self._store.latest_crl(state.authority_id)
        below_root = state.chain if len(state.chain) == 1 else state.chain[:-1]
        return {
            "certificate": certificate_pem(state.chain[0]),
            "chain": chain_pem(below_root),
            "root": certificate_pem(state.chain[-1]),
            "authority_id": state.authority_id,
            "not_after": int(certificate.not_valid_after_utc.timestamp()),
            "crl_number": crl.number if crl else None,
            "crl": pem("X509 CRL", crl.der) if crl and crl.der else None,
        }


def _authenticator(item: ManagedObject, spec: AuthenticatorSpec) -> JsonObject:
    state = decode_state(item, AuthenticatorState)
    csr = x509.load_der_x509_csr(state.csr)
    spki = csr.public_key().public_bytes(*_SPKI)
    return {
        "csr": pem("CERTIFICATE REQUEST", state.csr),
        "public_key_sha256": hashlib.sha256(spki).hexdigest(),
        "needs_certificate": needs_certificate(spec),
        "certificate": None if spec.certificate is None else _leaf(spec.certificate),
    }


def _peer_issuer(spec: PeerIssuerSpec) -> JsonObject:
    issuer = read_issuer(spec)
    return {
        "trust_anchors": [
            {
                "subject": anchor.subject.rfc4514_string(),
                "fingerprint_sha256": anchor.fingerprint(hashes.SHA256()).hex(),
                "not_after": int(anchor.not_valid_after_utc.timestamp()),
            }
            for anchor in issuer.trust_anchors
        ],
        "crls": [
            {
                "issuer": crl.issuer.rfc4514_string(),
                "number": crl_number(crl),
                "next_update": (
                    int(crl.next_update_utc.timestamp()) if crl.next_update_utc else None
                ),
                "revoked": len(crl),
            }
            for crl in issuer.crls
        ],
    }


def needs_certificate(spec: AuthenticatorSpec) -> bool:
    """Tell whether an authenticator has no certificate, or one for other names than it should."""
    if spec.certificate is None:
        return True
    if spec.purpose == "peer":
        return False
    san = _alternative_names(x509.load_pem_x509_certificates(spec.certificate.encode())[0])
    dns_names = {name.lower() for name in san.get_values_for_type(x509.DNSName)}
    addresses = {str(address) for address in san.get_values_for_type(x509.IPAddress)}
    return dns_names != {name.lower() for name in spec.dns_names} or addresses != {
        _plain_address(text) for text in spec.ip_addresses
    }


def _plain_address(text: str) -> str:
    """Return the one way to write an address; what is none is refused when it is certified."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
    return found.value


def _leaf(chain: str) -> JsonObject:
    certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    uris = _alternative_names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    return {
        "serial": f"{certificate.serial_number:x}",
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "identity": uris[0] if uris else None,
    }


def _signer(item: ManagedObject) -> JsonObject:
    chain = decode_state(item, SignerState).chain
    if not chain:
        return {"not_after": None, "serial": None}
    certificate = x509.load_der_x509_certificate(chain[0])
    return {
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "serial": f"{certificate.serial_number:x}",
    }
