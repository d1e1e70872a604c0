"""What the web edge asks of the node: three Protocols, and every body that crosses the edge.

``functions/`` implements the Protocols; ``status_server``, ``registration`` and ``admin`` call
them. Bodies are msgspec structs: the OpenAPI document, the reference pages and the contract tests
of the clients derive from them. Requests refuse unknown fields; answers may grow fields.

Times are whole seconds since the epoch, serial numbers lower-case hexadecimal without separators,
certificates and CRLs PEM text, unless a field says otherwise. Backends raise the errors of
``node_agent.errors``; ``problems.py`` alone turns them into HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from node_agent.web.admin_bodies import (
    AccessExplanation,
    AccessQuestion,
    ApprovalSelection,
    ApprovalView,
    AuditItem,
    AuditSelection,
    AuditVerification,
    AuthorityComparison,
    AuthorityStatus,
    CrlView,
    CryptoTokenStatus,
    LocalCaller,
    ManagementCertificate,
    ManagementCertificateOrder,
    NodeDescription,
    NodeHealth,
    ObjectPage,
    ObjectView,
    PeerStatus,
    PingResult,
    PlanResult,
    PlanStep,
    PublisherStatus,
    PublisherVerification,
    RecoveredAuthority,
    RecoveryOrder,
    RecoveryReport,
    ServiceUrls,
    SignerStatus,
    StatusReport,
    StatusWorkerStatus,
    TraceStep,
)
from node_agent.web.approval_bodies import (
    ApprovalFilter,
    ApprovalPage,
    PendingApproval,
    VerdictOrder,
    VerdictOutcome,
)
from node_agent.web.bodies import (
    REASON_NUMBERS,
    CertificateFilter,
    CertificateInfo,
    Health,
    Problem,
    RevocationOrder,
    RevocationOutcome,
    RevocationReason,
)
from node_agent.web.registration_bodies import (
    Catalogue,
    CatalogueAuthority,
    CertificatePage,
    Credential,
    CredentialKind,
    EnrollCall,
    EnrollOrder,
    EnrollOutcome,
    IssuedCertificate,
    Requester,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from node_agent.objects import NodeSpecification, ObjectSpec
    from node_agent.web.certificate_search import SearchKey

__all__ = [
    "REASON_NUMBERS",
    "AccessExplanation",
    "AccessQuestion",
    "ApprovalBackend",
    "ApprovalFilter",
    "ApprovalPage",
    "ApprovalSelection",
    "ApprovalView",
    "AuditItem",
    "AuditSelection",
    "AuditVerification",
    "AuthorityComparison",
    "AuthorityStatus",
    "CachedResponse",
    "Catalogue",
    "CatalogueAuthority",
    "CertificateFilter",
    "CertificateInfo",
    "CertificatePage",
    "Credential",
    "CredentialKind",
    "CrlView",
    "CryptoTokenStatus",
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
    "ObjectPage",
    "ObjectView",
    "OcspAnswer",
    "PeerStatus",
    "PendingApproval",
    "PingResult",
    "PlanResult",
    "PlanStep",
    "Problem",
    "PublisherStatus",
    "PublisherVerification",
    "RecoveredAuthority",
    "RecoveryOrder",
    "RecoveryReport",
    "RegistrationBackend",
    "Requester",
    "RevocationOrder",
    "RevocationOutcome",
    "RevocationReason",
    "ServiceUrls",
    "SignerStatus",
    "FoundCertificates",
    "RetrievalBackend",
    "StatusBackend",
    "StatusReport",
    "StatusWorkerStatus",
    "TraceStep",
    "VerdictOrder",
    "VerdictOutcome",
]


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

    async def objects(self, kind: str, page: ObjectPage) -> Sequence[ObjectView]:
        """Return a page of the objects of ``kind`` (a key of ``objects.KINDS``), by name."""
        ...

    async def object(self, kind: str, name: str) -> ObjectView:
        """Return one object. Raises NotFound."""
        ...

    async def approvals(self, wanted: ApprovalSelection) -> Sequence[ApprovalView]:
        """Return requests for approval at this node's CAs, oldest first. Raises NotFound."""
        ...

    async def approval(self, approval: bytes) -> ApprovalView:
        """Return one request for approval with its CSR. Raises NotFound."""
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

    async def certificate(self, authority: str, serial: int) -> CertificateInfo:
        """Return one certificate of a local CA, with its PEM. Raises NotFound."""
        ...

    async def crl(self, authority: str, *, delta: bool, shard: int) -> CrlView:
        """Return the newest CRL (or delta CRL) of a local CA, or of a shard. Raises NotFound."""
        ...

    async def peers(self) -> Sequence[PeerStatus]:
        """Return every connector and every incoming peer."""
        ...

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a connector's name, node name or node URI.

        Raises NotFound for an unknown peer, Unavailable for one without a live link.
        """
        ...

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        """Compare a publisher's peer with this node, and with ``repair`` put right what differs.

        Raises NotFound for an unknown publisher, Conflict for one of CRLs alone, Unavailable while
        the peer isn't reached.
        """
        ...

    async def open_token(self, name: str, *, caller: LocalCaller) -> CryptoTokenStatus:
        """Try to open a crypto token now, also after its PIN was refused.

        Raises NotFound; TokenError saying why it stays closed.
        """
        ...

    async def recover(self, order: RecoveryOrder, *, caller: LocalCaller) -> RecoveryReport:
        """Bring a restored store up to what its peers have seen."""
        ...

    def metrics(self) -> bytes:
        """Return the node's metrics in the text format of Prometheus."""
        ...

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        ...

    async def audit(self, wanted: AuditSelection) -> Sequence[AuditItem]:
        """Return the entries that ``wanted`` selects, in order."""
        ...

    async def verify_audit(self) -> AuditVerification:
        """Recompute the whole chain, and hold it against every signed checkpoint."""
        ...

    async def explain(self, question: AccessQuestion) -> AccessExplanation:
        """Decide without doing; nothing is written."""
        ...


class ApprovalBackend(Protocol):
    """The RA's part in approvals. Each call is decided like every other one of a requester."""

    async def pending(self, requester: Requester, query: ApprovalFilter) -> ApprovalPage:
        """Return one page of what this requester may approve; ``query.authority`` is set."""
        ...

    async def one(self, requester: Requester, authority: str, approval: bytes) -> PendingApproval:
        """Return one request with its CSR. Raises NotFound, also for one that isn't granted."""
        ...

    async def decide(
        self, requester: Requester, authority: str, approval: bytes, order: VerdictOrder
    ) -> VerdictOutcome:
        """Approve, reject or withdraw. Raises SelfApproval, NotFound, Conflict when it ended."""
        ...


class RegistrationBackend(Protocol):
    """The RA. It decides nothing by itself but who the requester is: each call goes through the
    one policy decision, whose PolicyDenied (ours or a peer's) reaches the requester as one and
    the same problem for "not yours" and "not there".
    """

    @property
    def approvals(self) -> ApprovalBackend:
        """What is asked about requests that wait for approval."""
        ...

    def authenticate(self, credential: Credential) -> Requester | None:
        """Return who holds the credential. Must compare in constant time (hmac.compare_digest)."""
        ...

    async def enroll(self, requester: Requester, call: EnrollCall) -> EnrollOutcome:
        """Return the certificate. A repeated ``request_id`` returns the one that was issued.

        Raises AwaitsApproval, PolicyDenied, RequestRefused, Conflict (id reused with other
        content), Unavailable, DeadlineExceeded, RemoteError.
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
    second: the Date header and max-age move), and drops them once that second is over: else each
    answer would be in memory twice.
    """

    __slots__ = ("answer", "wire", "wire_second")

    def __init__(self, answer: OcspAnswer) -> None:
        self.answer = answer
        self.drop_wire()

    def drop_wire(self) -> None:
        """Forget the HTTP bytes."""
        self.wire = b""
        self.wire_second = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file of the status port: CRL (``application/pkix-crl``) or CA certificate
    (``application/pkix-cert``), DER. ``etag`` without quotes; ``expires_at`` is nextUpdate.
    ``is_immutable``: the address names the content, so that it never changes.

    A file that is too long to keep has ``read`` instead of ``data``: it yields the ``octets`` from
    a given offset on, piece by piece, and may raise when the file is replaced meanwhile.
    """

    data: bytes
    content_type: str
    etag: str
    last_modified: int
    expires_at: int | None = None
    is_immutable: bool = False
    octets: int = 0
    read: Callable[[int], AsyncIterator[bytes]] | None = None

    @property
    def size(self) -> int:
        """How many octets the file has."""
        return len(self.data) if self.read is None else self.octets


@dataclass(frozen=True, slots=True)
class FoundCertificates:
    """DER certificates, as it was known at ``as_of`` (seconds since the epoch)."""

    certificates: tuple[bytes, ...]
    as_of: int


class RetrievalBackend(Protocol):
    """Certificates that anybody may fetch."""

    async def certificates(self, key: SearchKey) -> FoundCertificates:
        """Return the CA certificates that ``key`` names."""
        ...

    async def crl_issuer(self, key: SearchKey) -> str | None:
        """Return the name of the CA whose CRL ``key`` asks for."""
        ...

    async def issuer_chain(self, authority: str) -> Download | None:
        """Return the CA certificate and those above it by name, or None."""
        ...

    async def certificate(self, authority: str, serial: int) -> Download | None:
        """Return an end-entity certificate if it may be fetched, or None."""
        ...


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

    async def crl(self, authority: str, delta: bool, shard: int = 0) -> Download | None:
        """Return the current CRL of a CA by name (with ``shard``: of that part), or None."""
        ...

    async def issuer_certificate(self, authority: str) -> Download | None:
        """Return the CA certificate by name, or None."""
        ...

    @property
    def retrieval(self) -> RetrievalBackend:
        """What gives out certificates."""
        ...

    def health(self) -> Health:
        """Return at once. Status ``failed`` is answered with 503."""
        ...

    def lag_seconds(self) -> float | None:
        """Return how old the newest of what is known of each served CA may be; None: unknown."""
        ...
