"""Specifications of the objects that a node is made of: what the admin API takes and returns.

A specification is what an operator *wrote*; what the node made of it (keys, certificates, link
states) is state and never part of it. Names are unique per kind. Unknown fields are refused, so
that a typing error never becomes a silent default. This module only states shapes; cross-object
rules (a role that names an unknown CA) are checked where a plan is made.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "KINDS",
    "TLS_KEY_KINDS",
    "AccessRule",
    "AuthenticatorSpec",
    "CertificateProfileSpec",
    "CertificationAuthoritySpec",
    "CrlSpec",
    "CryptoTokenSpec",
    "NodeSpecification",
    "ObjectSpec",
    "PeerConnectorSpec",
    "PeerIssuerSpec",
    "PeerRoleSpec",
    "PublisherSpec",
    "RequesterSpec",
    "RoleParameters",
    "SanRule",
    "SignerSpec",
    "SubjectRule",
]

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$")]
KeyKind = Literal[
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ec-p256",
    "ec-p384",
    "ec-p521",
    "ed25519",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
]
TLS_KEY_KINDS: tuple[KeyKind, ...] = (
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ec-p256",
    "ec-p384",
    "ec-p521",
    "ed25519",
)
"""What an authenticator's key may be. TLS takes ML-DSA from OpenSSL 3.5 on only, and peers sign
nothing with it.
"""
SanKind = Literal["dns", "ip", "email", "uri"]
PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class CryptoTokenSpec(_Spec, frozen=True):
    """Where keys live. ``soft``: encrypted in the store. ``pkcs11``: in a token of the PKCS #11
    ``module`` (absolute path of a shared library, one that the node's start-up file allows), the
    one with that ``token_label``, ``token_serial`` and ``slot``, as far as they are given. Its PIN
    is in ``pin_file``, or in the systemd credential ``pin_credential``.

    ``on_demand`` keys are opened for one operation and closed again, the soft form of an offline
    token; ``automatic`` keys stay open while the agent runs.
    """

    name: Name
    kind: Literal["soft", "pkcs11"] = "soft"
    activation: Literal["automatic", "on_demand"] = "automatic"
    module: str | None = None
    token_label: str | None = None
    token_serial: str | None = None
    slot: NonNegativeInt | None = None
    pin_file: str | None = None
    pin_credential: str | None = None


class AuthenticatorSpec(_Spec, frozen=True):
    """The node's TLS identity. ``peer``: the identity on peer links (URI SAN from the node's own
    name); ``server``: the certificate of the node's REST port (``dns_names``, ``ip_addresses``).

    ``certificate`` is the PEM chain from the Management CA, leaf first; absent until certified.
    ``trust_anchors`` are PEM CA certificates, ``crls`` PEM CRLs of those. With
    ``require_current_crl`` no peer is trusted whose issuer's CRL is missing or overdue.
    """

    name: Name
    purpose: Literal["peer", "server"] = "peer"
    crypto_token: Name = "default"  # noqa: S105  # a name, not a secret
    key_kind: KeyKind = "ec-p256"
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    certificate: str | None = None
    trust_anchors: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()
    require_current_crl: bool = False


class CrlSpec(_Spec, frozen=True):
    """When CRLs are made. Overlap: the next CRL is made this long before the last one expires."""

    validity_seconds: PositiveInt = 7 * 86400
    overlap_seconds: PositiveInt = 86400
    delta_validity_seconds: int = 0
    """0 means: no delta CRLs."""
    on_revocation: bool = True
    shards: int = 0
    """Into how many lists the certificates issued from now on are divided; 0: all on one. Can be
    raised, never lowered: certificates name theirs.
    """


class CertificationAuthoritySpec(_Spec, frozen=True):
    """A CA. ``root`` signs itself; ``issuing`` is signed by ``issuer``, a CA of the same node;
    ``management`` is a self-signed CA that only issues authenticators, only on local request.

    ``subject`` is RFC 4514 text (``CN=Example Root,O=Example``). ``profiles`` names the
    certificate profiles it may be asked for. URLs go into issued certificates.
    """

    name: Name
    kind: Literal["root", "issuing", "management"]
    subject: str
    issuer: Name | None = None
    crypto_token: Name = "default"  # noqa: S105  # a name, not a secret
    key_kind: KeyKind = "ec-p256"
    validity_days: PositiveInt = 3650
    path_length: int | None = None
    profiles: tuple[Name, ...] = ()
    crl: CrlSpec = CrlSpec()
    ocsp_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    crl_urls: tuple[str, ...] = ()


class SubjectRule(_Spec, frozen=True):
    """One subject attribute: from the CSR and matching ``pattern`` (a whole-string regular
    expression), or the fixed ``value``. Attributes stand in the certificate in the listed order;
    an attribute that isn't listed is refused.
    """

    attribute: Literal[
        "common_name",
        "organization",
        "organizational_unit",
        "country",
        "state_or_province",
        "locality",
        "serial_number",
        "email_address",
        "domain_component",
        "user_id",
    ]
    required: bool = False
    pattern: str | None = None
    value: str | None = None


class SanRule(_Spec, frozen=True):
    """How many names of one kind a certificate may carry, and what each must match."""

    kind: SanKind
    pattern: str | None = None
    minimum: int = 0
    maximum: int = 100


class CertificateProfileSpec(_Spec, frozen=True):
    """What a certificate may contain. Key usages are RFC 5280 bit names, extended key usages are
    names (``server_auth``) or dotted OIDs, policies dotted OIDs.

    With ``approvals``, so many people other than the requester have to approve each request, within
    ``approval_expiry_seconds``.
    """

    name: Name
    subject: tuple[SubjectRule, ...] = ()
    san: tuple[SanRule, ...] = ()
    key_kinds: tuple[KeyKind, ...] = (
        "ec-p256",
        "ec-p384",
        "ec-p521",
        "rsa-2048",
        "rsa-3072",
        "rsa-4096",
        "ed25519",
    )
    key_usage: tuple[str, ...] = ("digital_signature",)
    extended_key_usage: tuple[str, ...] = ("server_auth",)
    validity_days: PositiveInt = 90
    backdate_seconds: int = 300
    policies: tuple[str, ...] = ()
    include_ocsp_url: bool = True
    include_issuer_url: bool = True
    include_crl_url: bool = True
    approvals: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    approval_expiry_seconds: Annotated[int, msgspec.Meta(ge=60, le=90 * 86400)] = 7 * 86400


class AccessRule(_Spec, frozen=True):
    """Allow or deny one resource path; ``*`` is one segment, or once in it a part of a name, a last
    ``**`` everything below.
    """

    resource: str
    effect: Literal["allow", "deny"] = "allow"


class RoleParameters(_Spec, frozen=True):
    """What a role's template is about. CAs and profiles may be patterns (``acme-*``).

    ``operations`` and ``protocols`` are those of an RA; ``publishes`` is what a publisher sends.
    """

    authorities: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    protocols: tuple[Literal["rest", "est", "acme", "cmp"], ...] = ("rest",)
    operations: tuple[Literal["enroll", "revoke", "status", "search", "approve"], ...] = (
        "enroll",
        "revoke",
        "status",
        "search",
    )
    publishes: tuple[Literal["certificate", "status", "crl", "read", "take_back"], ...] = (
        "certificate",
        "status",
        "crl",
        "read",
    )


class PeerRoleSpec(_Spec, frozen=True):
    """Members and what they may do. A member is ``spiffe://…``, ``fingerprint:<sha256 hex>``,
    ``spki:<sha256 hex>`` or ``serial:<hex>@<RFC 4514 issuer>``.

    ``tenant`` owns what its members enrol, the role's own name where none is given. ``own``: they
    see only that tenant's certificates. The bounds are on the tenant's certificates together.

    ``names`` are those that may be asked for, as ``dns:example.org`` (itself and below); any where
    none is given.

    A ``template`` with its ``parameters`` stands for rules beside ``rules``. It is only written:
    what is kept and shown has the rules themselves (``policy/templates.py``).
    """

    name: Name
    members: tuple[str, ...] = ()
    rules: tuple[AccessRule, ...] = ()
    template: (
        Literal["publisher", "registration_authority", "validation_authority", "proxy", "tenant"]
        | None
    ) = None
    parameters: RoleParameters | None = None
    tenant: Name | None = None
    certificate_scope: Literal["own", "all"] = "own"
    max_issued_certificates: PositiveInt | None = None
    issued_period_seconds: PositiveInt = 86400
    max_valid_certificates: PositiveInt | None = None
    names: tuple[str, ...] = ()


class PeerIssuerSpec(_Spec, frozen=True):
    """Whose certificates prove the nodes of another trust domain, such as a tenant's own
    Management CA. It vouches for ``spiffe://<trust_domain>/node/…`` and for nothing else.

    ``trust_anchors`` are PEM certificates of the CAs that sign the authenticators themselves,
    ``crls`` PEM CRLs of those. No key, certificate or name of an anchor may be another domain's.
    """

    name: Name
    trust_domain: str
    trust_anchors: tuple[str, ...]
    crls: tuple[str, ...] = ()


class PeerConnectorSpec(_Spec, frozen=True):
    """An outgoing link: ``address`` is ``host:port``, ``peer`` the identity that must answer."""

    name: Name
    address: str
    peer: str
    authenticator: Name = "peer"
    enabled: bool = True
    min_connections: PositiveInt = 1
    max_connections: PositiveInt = 4
    max_parallel_requests: PositiveInt = 50
    max_age_seconds: PositiveInt = 3600
    idle_seconds: PositiveInt = 60


class PublisherSpec(_Spec, frozen=True):
    """The standing order "what these CAs record goes to that peer".

    ``content``: certificates whole or, without ``certificate``, their statuses alone; CRLs.
    ``only_revoked`` leaves out certificates whose status never changed.
    Each ``verify_seconds`` what the peer has is compared with what is here, and repaired; 0: only
    when somebody asks.
    """

    name: Name
    peer: str
    authorities: tuple[Name, ...]
    content: tuple[Literal["certificate", "status", "crl"], ...] = ("certificate", "status", "crl")
    verify_seconds: NonNegativeInt = 3600
    only_revoked: bool = False


class SignerSpec(_Spec, frozen=True):
    """A VA's OCSP signing key and certificate for one CA, certified over the peer link.

    ``unknown_serial``: what is answered for a serial that isn't recorded here. Without one it is
    ``unknown`` where the CA publishes all certificates, and ``unauthorized`` where it publishes
    only revoked ones: there somebody must choose. ``good`` counts only there.

    ``certificate_retrieval``: anybody may fetch this CA's end-entity certificates by serial number
    at the status port. They may hold personal data, so it is off unless somebody wants it.
    """

    name: Name
    authority: Name
    crypto_token: Name = "default"  # noqa: S105  # a name, not a secret
    key_kind: KeyKind = "ec-p256"
    validity_seconds: PositiveInt = 3600
    renew_before_seconds: PositiveInt = 7 * 86400
    unknown_serial: Literal["unknown", "unauthorized", "revoked", "good"] | None = None
    certificate_retrieval: bool = False


class RequesterSpec(_Spec, frozen=True):
    """Someone who may ask at this RA: by API token (``token_sha256``: hexadecimal SHA-256 of a
    token of at least 128 random bits) or by client certificate (``certificate_sha256``).

    ``rules`` use the same resources as peer roles (``/ra/enroll``, ``/ca/issuing``, …), and
    ``names`` are as there. It may ask ``burst_requests`` times at once, and
    ``requests_per_second`` times in the long run: one runaway client doesn't crowd out the others.
    What protects the CA are the credits that it grants to the RA.
    """

    name: Name
    token_sha256: str | None = None
    certificate_sha256: str | None = None
    rules: tuple[AccessRule, ...] = ()
    client_trust_anchors: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    requests_per_second: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    burst_requests: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000


class NodeSpecification(_Spec, frozen=True):
    """Every object of a node. With ``purge``, an object that isn't listed is deleted."""

    crypto_tokens: tuple[CryptoTokenSpec, ...] = ()
    authenticators: tuple[AuthenticatorSpec, ...] = ()
    certificate_profiles: tuple[CertificateProfileSpec, ...] = ()
    certification_authorities: tuple[CertificationAuthoritySpec, ...] = ()
    peer_issuers: tuple[PeerIssuerSpec, ...] = ()
    peer_roles: tuple[PeerRoleSpec, ...] = ()
    peer_connectors: tuple[PeerConnectorSpec, ...] = ()
    publishers: tuple[PublisherSpec, ...] = ()
    signers: tuple[SignerSpec, ...] = ()
    requesters: tuple[RequesterSpec, ...] = ()
    purge: bool = False


ObjectSpec = (
    CryptoTokenSpec
    | AuthenticatorSpec
    | CertificateProfileSpec
    | CertificationAuthoritySpec
    | PeerIssuerSpec
    | PeerRoleSpec
    | PeerConnectorSpec
    | PublisherSpec
    | SignerSpec
    | RequesterSpec
)

KINDS: dict[str, type[ObjectSpec]] = {
    "crypto_tokens": CryptoTokenSpec,
    "authenticators": AuthenticatorSpec,
    "certificate_profiles": CertificateProfileSpec,
    "certification_authorities": CertificationAuthoritySpec,
    "peer_issuers": PeerIssuerSpec,
    "peer_roles": PeerRoleSpec,
    "peer_connectors": PeerConnectorSpec,
    "publishers": PublisherSpec,
    "signers": SignerSpec,
    "requesters": RequesterSpec,
}
"""Every kind in the order in which a plan creates them (and, reversed, deletes them)."""
