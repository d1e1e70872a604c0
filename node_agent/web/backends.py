"""What the web edge asks of the node: three Protocols, and every body that crosses the edge.

``functions/`` implements the Protocols; ``status_server``, ``registration`` and ``admin`` call
them. Bodies are msgspec structs: the OpenAPI document, the reference pages and the contract tests
of the clients derive from them. Requests refuse unknown fields; answers may grow fields.

Times are whole seconds since the epoch, serial numbers lower-case hexadecimal without separators,
certificates and CRLs PEM text, unless a field says otherwise. Backends raise the errors of
``node_agent.errors``; ``problems.py`` alone turns them into HTTP.
"""

from __future__ import annotations

import enum
import uuid  # noqa: TC003  # msgspec resolves the annotation at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.objects import NodeSpecification, ObjectSpec

__all__ = [
    "REASON_NUMBERS",
    "AccessExplanation",
    "AccessQuestion",
    "AuditItem",
    "AuditVerification",
    "AuthorityStatus",
    "CachedResponse",
    "Catalogue",
    "CatalogueAuthority",
    "CertificateFilter",
    "CertificateInfo",
    "CertificatePage",
    "Credential",
    "CredentialKind",
    "Download",
    "EnrollCall",
    "EnrollOrder",
    "EnrollOutcome",
    "Health",
    "IssuedCertificate",
    "LocalCaller",
    "ManagementBackend",
    "ManagementCertificate",
    "ManagementCertificateOrder",
    "NodeDescription",
    "NodeHealth",
    "ObjectView",
    "OcspAnswer",
    "PeerStatus",
    "PingResult",
    "PlanResult",
    "PlanStep",
    "Problem",
    "PublisherStatus",
    "RegistrationBackend",
    "Requester",
    "RevocationOrder",
    "RevocationOutcome",
    "RevocationReason",
    "ServiceUrls",
    "SignerStatus",
    "StatusBackend",
    "StatusReport",
    "TraceStep",
]

JsonObject = dict[str, Any]
HealthWord = Literal["ok", "degraded", "failed"]
StatusWord = Literal["good", "on_hold", "revoked"]
SerialHex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,40}$")]
RevocationReason = Literal[
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
]

REASON_NUMBERS: dict[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}
"""CRLReason names and numbers of RFC 5280 section 5.3.1; ``removeFromCRL`` releases a hold."""


class _Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body."""


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """An answer body."""


class Problem(_View, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document. ``field`` names the part at fault, ``remedy`` what to do."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    remedy: str = ""
    findings: tuple[str, ...] = ()


# --- admin API -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalCaller:
    """The process at the other end of the admin socket, as the kernel names it (SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int

    def __str__(self) -> str:
        return f"local uid {self.uid}"


class NodeHealth(_View, frozen=True, kw_only=True):
    """``GET /v1/health`` of the admin API: the agent answers at all."""

    status: Literal["ok"] = "ok"
    node: str
    version: str


class ObjectView(_View, frozen=True, kw_only=True, omit_defaults=True):
    """An object: what was specified, and what the node made of it (absent in a dry run)."""

    spec: JsonObject
    state: JsonObject | None = None


class NodeDescription(_View, frozen=True, kw_only=True):
    """``GET /v1/node``: every object by kind (``objects.KINDS``), empty kinds too."""

    identity: str
    version: str
    started_at: float
    objects: dict[str, tuple[ObjectView, ...]]


class PlanStep(_View, frozen=True, kw_only=True):
    """One change. ``before`` is None on create, ``after`` None on delete."""

    action: Literal["create", "update", "delete"]
    kind: str
    name: str
    before: JsonObject | None
    after: JsonObject | None


class PlanResult(_View, frozen=True, kw_only=True):
    """What a PUT or DELETE changed, or with ``dry_run`` would change. ``objects``: kind, name."""

    changed: bool
    steps: tuple[PlanStep, ...] = ()
    objects: dict[str, dict[str, ObjectView]] = {}


class ManagementCertificateOrder(_Order, frozen=True, kw_only=True):
    """Ask a local management CA to certify a node's key. ``csr`` is PEM.

    ``purpose`` peer needs ``identity`` (the URI SAN), server needs a DNS name or IP address.
    A certificate with the same key and names that stays valid longer than ``renew_before_days``
    is returned instead of a new one.
    """

    csr: str
    authority: str = "management"
    purpose: Literal["peer", "server"] = "peer"
    identity: str | None = None
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    renew_before_days: Annotated[int, msgspec.Meta(ge=0)] = 30


class ManagementCertificate(_View, frozen=True, kw_only=True):
    """``certificate`` is the PEM chain, leaf first, without the root."""

    changed: bool
    certificate: str
    trust_anchors: tuple[str, ...]
    crl: str | None
    serial: str
    not_after: int


class RevocationOrder(_Order, frozen=True, kw_only=True):
    """Revoke (or hold with ``certificateHold``, release with ``removeFromCRL``)."""

    reason: RevocationReason = "unspecified"
    invalidity_at: int | None = None


class RevocationOutcome(_View, frozen=True, kw_only=True):
    """The status after the order. ``changed`` is False when it was so already."""

    changed: bool
    status: StatusWord
    revoked_at: int | None
    reason: RevocationReason | None
    position: int = 0
    """Change-log position at which the status stands."""


class CertificateInfo(_View, frozen=True, kw_only=True):
    """A certificate as lists and lookups return it."""

    authority: str
    serial: str
    subject: str
    names: tuple[str, ...]
    profile: str
    requester: str
    not_before: int
    not_after: int
    status: StatusWord
    revoked_at: int | None = None
    reason: RevocationReason | None = None
    certificate: str | None = None


class CertificateFilter(_Order, frozen=True, kw_only=True):
    """A search; absent fields don't restrict. ``name`` matches subject or SAN as a substring.

    ``after`` is the opaque ``next`` of the page before (REST only).
    """

    authority: str | None = None
    name: str | None = None
    status: StatusWord | None = None
    profile: str | None = None
    requester: str | None = None
    expires_before: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    after: str | None = None


class PeerStatus(_View, frozen=True, kw_only=True):
    """One peer in one direction. ``connector`` is None for an incoming peer."""

    peer: str
    direction: Literal["out", "in"]
    connector: str | None
    address: str
    state: Literal["up", "connecting", "down", "disabled"]
    connections: int
    min: int
    max: int
    in_flight: int
    queued: int
    round_trip_ms: float | None
    roles: tuple[str, ...]
    last_error: str | None
    last_seen: float | None


class PingResult(_View, frozen=True, kw_only=True):
    """Round-trip times, one per live link."""

    round_trip_ms: tuple[float, ...]


class PublisherStatus(_View, frozen=True, kw_only=True):
    """How far a publisher's peer is behind this node's change log."""

    name: str
    peer: str
    position: int
    last_position: int
    lag_entries: int
    lag_seconds: float
    state: str
    last_error: str | None


class SignerStatus(_View, frozen=True, kw_only=True):
    """A VA's OCSP signer. ``not_after`` and ``serial`` are None until it is certified."""

    name: str
    authority: str
    state: str
    not_after: int | None
    serial: str | None


class AuthorityStatus(_View, frozen=True, kw_only=True):
    """A CA of this node, or one whose statuses this node serves."""

    name: str
    kind: str
    subject: str
    not_after: int | None
    crl_number: int | None
    crl_next_update: int | None
    certificates: int


class ServiceUrls(_View, frozen=True, kw_only=True):
    """Where this node's open ports are reached; None for a closed one."""

    rest: str | None = None
    status: str | None = None


class StatusReport(_View, frozen=True, kw_only=True):
    """``GET /v1/status``: the whole node at a glance; ``reasons`` explain a health below ok."""

    node: JsonObject
    health: HealthWord
    reasons: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    publishers: tuple[PublisherStatus, ...]
    signers: tuple[SignerStatus, ...]
    authorities: tuple[AuthorityStatus, ...]
    urls: ServiceUrls


class AuditItem(_View, frozen=True, kw_only=True):
    """One audit entry; ``hash`` is the hexadecimal chain hash."""

    sequence: int
    at: float
    action: str
    allowed: bool
    chain: str
    resources: tuple[str, ...]
    reason: str
    detail: dict[str, str]
    hash: str


class AuditVerification(_View, frozen=True, kw_only=True):
    """Whether the chain holds; ``first_bad`` is the first entry that doesn't fit."""

    ok: bool
    entries: int
    first_bad: int | None
    reason: str = ""


class AccessQuestion(_Order, frozen=True, kw_only=True):
    """Would ``identity`` be allowed ``operation`` (a method of the peer protocol)?"""

    identity: str
    operation: str
    authority: str | None = None
    profile: str | None = None
    protocol: str = "rest"


class TraceStep(_View, frozen=True, kw_only=True):
    """What one identity of the chain is granted of one resource."""

    identity: str
    resource: str
    allowed: bool
    rule: str


class AccessExplanation(_View, frozen=True, kw_only=True):
    """The decision, and the verdict per identity and resource that led to it."""

    allowed: bool
    reason: str
    rule: str
    resources: tuple[str, ...]
    trace: tuple[TraceStep, ...]


class ManagementBackend(Protocol):
    """The node's management, behind the admin socket. Each call checks references between
    objects; a specification that can't work raises ConfigError and changes nothing. ``caller``
    goes to the audit log.
    """

    async def health(self) -> NodeHealth:
        """Return at once; raises nothing while the agent runs."""
        ...

    async def node(self) -> NodeDescription:
        """Return all objects."""
        ...

    async def apply_node(
        self, specification: NodeSpecification, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Plan the whole specification and, unless ``dry_run``, apply it in one transaction."""
        ...

    async def objects(self, kind: str) -> Sequence[ObjectView]:
        """Return the objects of ``kind`` (a key of ``objects.KINDS``) by name."""
        ...

    async def object(self, kind: str, name: str) -> ObjectView:
        """Return one object. Raises NotFound."""
        ...

    async def apply_object(
        self, spec: ObjectSpec, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Create or change one object."""
        ...

    async def delete_object(
        self, kind: str, name: str, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Delete one object; an absent one is no change. Raises Conflict while others use it."""
        ...

    async def certify(
        self, order: ManagementCertificateOrder, *, dry_run: bool, caller: LocalCaller
    ) -> ManagementCertificate:
        """Certify a node's key. Raises NotFound (no such management CA) or CsrRefused."""
        ...

    async def revoke_certificate(
        self, authority: str, serial: int, order: RevocationOrder, *, caller: LocalCaller
    ) -> RevocationOutcome:
        """Revoke a certificate of a local CA. Raises NotFound or Conflict."""
        ...

    async def certificates(self, query: CertificateFilter) -> Sequence[CertificateInfo]:
        """Return this node's certificates, newest first."""
        ...

    async def peers(self) -> Sequence[PeerStatus]:
        """Return every connector and every incoming peer."""
        ...

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a connector's name, node name or node URI.

        Raises NotFound for an unknown peer, Unavailable for one without a live link.
        """
        ...

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        ...

    async def audit(self, *, after: int, limit: int) -> Sequence[AuditItem]:
        """Return entries with a sequence above ``after``, in order."""
        ...

    async def verify_audit(self) -> AuditVerification:
        """Recompute the whole chain."""
        ...

    async def explain(self, question: AccessQuestion) -> AccessExplanation:
        """Decide without doing; nothing is written."""
        ...


# --- RA REST ---------------------------------------------------------------------------------


class CredentialKind(enum.Enum):
    """How a requester proved who it is."""

    TOKEN = "token"  # noqa: S105  # a word, not a secret
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Credential:
    """SHA-256, lower-case hexadecimal, of the bearer token's bytes or the certificate's DER."""

    kind: CredentialKind
    sha256: str


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks; ``name`` is the requester object's name."""

    name: str


class EnrollOrder(_Order, frozen=True, kw_only=True):
    """``POST /v1/certificates``. ``csr`` is PEM, or base64 of the DER.

    ``request_id`` (or the Idempotency-Key header) makes a retry return the same certificate.
    """

    authority: str
    profile: str
    csr: str
    request_id: uuid.UUID | None = None
    validity_seconds: Annotated[int, msgspec.Meta(gt=0)] | None = None


class IssuedCertificate(_View, frozen=True, kw_only=True):
    """The answer to an enrolment. ``chain``: the CA certificates without the root, PEM."""

    certificate: str
    chain: str
    serial: str
    not_before: int
    not_after: int
    request_id: str
    authority: str
    profile: str
    repeated: bool = False


class CertificatePage(_View, frozen=True, kw_only=True):
    """Matches, newest first; ``next`` goes into ``after`` of the following request."""

    certificates: tuple[CertificateInfo, ...]
    next: str | None = None


class CatalogueAuthority(_View, frozen=True, kw_only=True):
    """A CA that the requester may use; ``chain`` includes the root, issuer first, PEM."""

    name: str
    chain: str
    profiles: tuple[str, ...]


class Catalogue(_View, frozen=True, kw_only=True):
    """Only what the requester, this RA and every node on the way are all granted."""

    authorities: tuple[CatalogueAuthority, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollCall:
    """An enrolment as the backend gets it: ``csr`` DER, ``request_id`` 16 bytes."""

    authority: str
    profile: str
    csr: bytes
    request_id: bytes
    validity_seconds: int | None = None
    protocol: str = "rest"


@dataclass(frozen=True, slots=True)
class EnrollOutcome:
    """``chain`` is DER, leaf first, without the root."""

    chain: tuple[bytes, ...]
    repeated: bool = False


class RegistrationBackend(Protocol):
    """The RA. It decides nothing by itself but who the requester is: each call goes through the
    one policy decision, whose PolicyDenied (ours or a peer's) reaches the requester as one and
    the same problem for "not yours" and "not there".
    """

    def authenticate(self, credential: Credential) -> Requester | None:
        """Return who holds the credential. Must compare in constant time (hmac.compare_digest)."""
        ...

    async def enroll(self, requester: Requester, call: EnrollCall) -> EnrollOutcome:
        """Return the certificate. A repeated ``request_id`` returns the one that was issued.

        Raises PolicyDenied, RequestRefused, Conflict (id reused with other content),
        Unavailable, DeadlineExceeded, RemoteError.
        """
        ...

    async def revoke(
        self, requester: Requester, authority: str, serial: int, order: RevocationOrder
    ) -> RevocationOutcome:
        """Revoke, hold or release. Raises as enroll does, and NotFound."""
        ...

    async def status(self, requester: Requester, authority: str, serial: int) -> CertificateInfo:
        """Return one certificate. Raises as enroll does, and NotFound."""
        ...

    async def search(self, requester: Requester, query: CertificateFilter) -> CertificatePage:
        """Return one page; ``query.authority`` is always set."""
        ...

    async def catalogue(self, requester: Requester) -> Catalogue:
        """Return what the requester may ask for."""
        ...


# --- status port -----------------------------------------------------------------------------


class Health(_View, frozen=True, kw_only=True):
    """``GET /health`` of the open ports: says nothing that a stranger may not know."""

    status: HealthWord


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspAnswer:
    """An OCSP response (RFC 6960 DER) and how long it may be kept.

    ``last_modified`` is thisUpdate, ``expires_at`` nextUpdate (RFC 5019 section 6.2); None:
    answer must not be cached (nonce, error response). ``etag`` without quotes.
    """

    der: bytes
    last_modified: int = 0
    expires_at: int | None = None
    etag: str = ""


class CachedResponse:
    """An answer kept by the backend's cache, together with the HTTP bytes last made of it.

    Create one per OcspAnswer, keep it as long as the answer may be served, drop it to invalidate.
    The status server alone fills ``wire`` (whole HTTP message) and ``wire_second`` (for which
    second: the Date header and max-age move).
    """

    __slots__ = ("answer", "wire", "wire_second")

    def __init__(self, answer: OcspAnswer) -> None:
        self.answer = answer
        self.wire = b""
        self.wire_second = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file of the status port: CRL (``application/pkix-crl``) or CA certificate
    (``application/pkix-cert``), DER. ``etag`` without quotes; ``expires_at`` is nextUpdate.
    """

    data: bytes
    content_type: str
    etag: str
    last_modified: int
    expires_at: int | None = None


class StatusBackend(Protocol):
    """The VA as its status port sees it: read-only by construction."""

    def cached_response(self, request_der: bytes) -> CachedResponse | None:
        """Return the kept answer to exactly these request bytes, or None. Never blocks.

        The server asks for each request, so dropping an entry takes effect at once; it does not
        serve an entry past its ``expires_at``.
        """
        ...

    async def ocsp_response(self, request_der: bytes) -> OcspAnswer:
        """Answer any request, malformed ones with an OCSP error response; keep what may be kept.

        Raises Unavailable when no answer can be made (the server then says tryLater).
        """
        ...

    async def crl(self, authority: str, delta: bool) -> Download | None:
        """Return the current CRL of a CA by name, or None."""
        ...

    async def issuer_certificate(self, authority: str) -> Download | None:
        """Return the CA certificate by name, or None."""
        ...

    def health(self) -> Health:
        """Return at once. Status ``failed`` is answered with 503."""
        ...
