"""Bodies of the admin API (``docs/reference/admin-api.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from node_agent.web.bodies import HealthWord, JsonObject, Order, View

__all__ = [
    "AccessExplanation",
    "AccessQuestion",
    "ApprovalSelection",
    "ApprovalView",
    "AuditItem",
    "AuditSelection",
    "AuditVerification",
    "AuthorityComparison",
    "AuthorityStatus",
    "CrlView",
    "CryptoTokenStatus",
    "GivenApproval",
    "LocalCaller",
    "ManagementCertificate",
    "ManagementCertificateOrder",
    "NodeDescription",
    "NodeHealth",
    "ObjectPage",
    "ObjectView",
    "PeerStatus",
    "PingResult",
    "PlanResult",
    "PlanStep",
    "PublisherStatus",
    "PublisherVerification",
    "RecoveredAuthority",
    "RecoveryOrder",
    "RecoveryReport",
    "ServiceUrls",
    "SignerStatus",
    "StatusReport",
    "TraceStep",
]


@dataclass(frozen=True, slots=True)
class LocalCaller:
    """The process at the other end of the admin socket, as the kernel names it (SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int

    def __str__(self) -> str:
        return f"local uid {self.uid}"


class NodeHealth(View, frozen=True, kw_only=True):
    """``GET /v1/health`` of the admin API: the agent answers at all."""

    status: Literal["ok"] = "ok"
    node: str
    version: str


class ObjectView(View, frozen=True, kw_only=True, omit_defaults=True):
    """An object: what was specified, and what the node made of it (absent in a dry run)."""

    spec: JsonObject
    state: JsonObject | None = None


class ObjectPage(Order, frozen=True, kw_only=True):
    """Which objects of a kind: by name, those above ``after``, at most ``limit``; without both,
    all.
    """

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    after: str = ""


class NodeDescription(View, frozen=True, kw_only=True):
    """``GET /v1/node``: every object by kind (``objects.KINDS``), empty kinds too."""

    identity: str
    version: str
    started_at: float
    objects: dict[str, tuple[ObjectView, ...]]


class PlanStep(View, frozen=True, kw_only=True):
    """One change. ``before`` is None on create, ``after`` None on delete."""

    action: Literal["create", "update", "delete"]
    kind: str
    name: str
    before: JsonObject | None
    after: JsonObject | None


class PlanResult(View, frozen=True, kw_only=True):
    """What a PUT or DELETE changed, or with ``dry_run`` would change. ``objects``: kind, name."""

    changed: bool
    steps: tuple[PlanStep, ...] = ()
    objects: dict[str, dict[str, ObjectView]] = msgspec.field(default_factory=dict)


class ManagementCertificateOrder(Order, frozen=True, kw_only=True):
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


class ManagementCertificate(View, frozen=True, kw_only=True):
    """``certificate`` is the PEM chain, leaf first, without the root."""

    changed: bool
    certificate: str
    trust_anchors: tuple[str, ...]
    crl: str | None
    serial: str
    not_after: int


class PeerStatus(View, frozen=True, kw_only=True):
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


class PingResult(View, frozen=True, kw_only=True):
    """Round-trip times, one per live link."""

    round_trip_ms: tuple[float, ...]


class PublisherStatus(View, frozen=True, kw_only=True):
    """How far a publisher's peer is behind this node's change log. ``differences`` is what the
    comparison at ``verified_at`` found and didn't put right.
    """

    name: str
    peer: str
    position: int
    last_position: int
    lag_entries: int
    lag_seconds: float
    state: str
    last_error: str | None
    verified_at: int | None = None
    differences: int = 0


class AuthorityComparison(View, frozen=True, kw_only=True):
    """How a publisher's peer differs from this node for one CA. ``entries`` is how many
    certificates there are here; ``crls`` how many CRLs (parts of one that is divided) the peer has
    lost; ``repaired`` how many of its rows were put right, and of these CRLs made anew.
    """

    authority: str
    entries: int
    missing: int
    changed: int
    surplus: int
    crls: int = 0
    repaired: int


class PublisherVerification(View, frozen=True, kw_only=True):
    """What a comparison of a publisher's peer with this node found, ``at`` which time, and in how
    many ``exchanges`` with it.
    """

    publisher: str
    peer: str
    authorities: tuple[AuthorityComparison, ...]
    seconds: float
    exchanges: int
    at: int


class SignerStatus(View, frozen=True, kw_only=True):
    """A VA's OCSP signer. ``not_after`` and ``serial`` are None until it is certified."""

    name: str
    authority: str
    state: str
    not_after: int | None
    serial: str | None


class CryptoTokenStatus(View, frozen=True, kw_only=True):
    """A crypto token: ``unused``, ``open``, ``failed`` (it is tried again), or ``closed`` (its PIN
    was refused: nobody tries it until told to). ``keys`` are those of this node.
    """

    name: str
    kind: str
    state: Literal["unused", "open", "failed", "closed"]
    keys: int
    last_error: str | None


class AuthorityStatus(View, frozen=True, kw_only=True):
    """A CA of this node, or one whose statuses this node serves."""

    name: str
    kind: str
    subject: str
    not_after: int | None
    crl_number: int | None
    crl_next_update: int | None
    certificates: int


class CrlView(View, frozen=True, kw_only=True):
    """The newest CRL of a CA of this node, PEM. ``base_number`` is set on a delta CRL."""

    authority: str
    number: int
    this_update: int
    next_update: int
    crl: str
    base_number: int | None = None


class RecoveryOrder(Order, frozen=True, kw_only=True):
    """Bring a store that was restored from an old copy up to what its peers have seen.

    ``position`` and ``crl_numbers`` (by CA) are what it is brought above in any case: for what
    nobody who can be asked has seen.
    """

    dry_run: bool = False
    position: int = 0
    crl_numbers: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]] = msgspec.field(
        default_factory=dict
    )


class RecoveredAuthority(View, frozen=True, kw_only=True):
    """What was read back of a CA. ``crl_number``: the next CRL is numbered above it. ``listed`` are
    serials of certificates that peers know of, but don't have.
    """

    authority: str
    certificates: int
    statuses: int
    crl_number: int
    listed: tuple[str, ...]


class RecoveryReport(View, frozen=True, kw_only=True):
    """``peers`` had seen more than this store held; its change log goes on above ``position``."""

    dry_run: bool
    position_before: int
    position: int
    peers: tuple[str, ...]
    authorities: tuple[RecoveredAuthority, ...]


class ServiceUrls(View, frozen=True, kw_only=True):
    """Where this node's open ports are reached; None for a closed one."""

    rest: str | None = None
    status: str | None = None


class StatusWorkerStatus(View, frozen=True, kw_only=True):
    """A process that serves the status port. ``memory_octets`` is what it holds in memory,
    ``kept_octets`` the part of that for ``kept_answers``.
    """

    number: int
    state: Literal["up", "starting"]
    pid: int | None
    restarts: int
    connections: int
    kept_answers: int
    kept_octets: int
    memory_octets: int


class StatusReport(View, frozen=True, kw_only=True):
    """``GET /v1/status``: the whole node at a glance; ``reasons`` explain a health below ok."""

    node: JsonObject
    health: HealthWord
    reasons: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    publishers: tuple[PublisherStatus, ...]
    signers: tuple[SignerStatus, ...]
    authorities: tuple[AuthorityStatus, ...]
    urls: ServiceUrls
    status_workers: tuple[StatusWorkerStatus, ...] = ()
    crypto_tokens: tuple[CryptoTokenStatus, ...] = ()


class GivenApproval(View, frozen=True, kw_only=True):
    """Who approved, through which nodes (the RA first); ``counts`` as long as they may."""

    approver: str
    nodes: tuple[str, ...]
    at: int
    counts: bool


class ApprovalView(View, frozen=True, kw_only=True):
    """An enrolment that needs approvals, at a CA of this node.

    ``state`` is ``waiting``, ``approved`` (it is issued when its requester asks again), ``issued``,
    ``rejected``, ``withdrawn``, ``expired``, or ``outdated`` (the profile was changed since).
    """

    approval: str
    authority: str
    profile: str
    state: str
    requester: str
    origin: str
    via: tuple[str, ...]
    tenant: str
    subject: str
    names: tuple[str, ...]
    validity_seconds: int | None
    opened_at: int
    expires_at: int
    approvals_needed: int
    approvals: tuple[GivenApproval, ...]
    ended_by: str
    reason: str
    csr: str | None = None


class ApprovalSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The oldest requests that wait, at most ``limit``; with ``ended`` also those that don't."""

    authority: str = ""
    ended: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class AuditItem(View, frozen=True, kw_only=True):
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


class AuditSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries with a sequence above ``after``, at most ``limit``: the first of them, or with
    ``last`` the newest, and of these what was ``denied``, happened ``since`` (seconds since the
    epoch) and not after ``until``, and has ``peer`` (a node's URI or name) in its chain.
    """

    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    limit: int = 1000
    last: bool = False
    denied: bool = False
    since: float = 0.0
    until: float = 0.0
    """0 is no end."""
    peer: str = ""


class AuditVerification(View, frozen=True, kw_only=True):
    """Whether the chain holds; ``first_bad`` is the first entry that doesn't fit. ``checkpoints``
    counts the signed ones that it was held against, ``checkpoint`` is the newest of them.
    """

    ok: bool
    entries: int
    first_bad: int | None
    reason: str = ""
    checkpoints: int = 0
    checkpoint: int = 0


class AccessQuestion(Order, frozen=True, kw_only=True):
    """Would ``identity`` be allowed ``operation`` (a method of the peer protocol)?

    ``via`` are the nodes that the request passed, the one that is linked with this node last.
    ``names`` are those that an enrolment asks for: ``dns:``, ``ip:``, ``email:``, ``uri:`` with
    a value, ``cn:`` for a common name.
    """

    identity: str
    operation: str
    via: tuple[str, ...] = ()
    authority: str | None = None
    profile: str | None = None
    protocol: str = "rest"
    names: tuple[str, ...] = ()


class TraceStep(View, frozen=True, kw_only=True):
    """Whether one identity of the chain is granted one resource, or may ask for one name.

    ``link`` is its place in the chain: ``requester``, ``origin``, ``via 1`` and so on. ``resource``
    is empty where it only needs some role, ``rule`` where none matched.
    """

    link: str
    identity: str
    resource: str
    allowed: bool
    rule: str
    reason: str


class AccessExplanation(View, frozen=True, kw_only=True):
    """The decision, and the verdict per identity and resource that led to it. ``decided_by`` is
    the one that refuses; where all is allowed, each of them has to be there.
    """

    allowed: bool
    reason: str
    rule: str
    resources: tuple[str, ...]
    decided_by: TraceStep | None
    trace: tuple[TraceStep, ...]
