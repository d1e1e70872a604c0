"""Rows of the store as values: what every layer above hands in and gets back."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

__all__ = [
    "Approval",
    "ApprovalQuery",
    "ApprovalRecord",
    "ApprovalState",
    "AuditEntry",
    "AuditRecord",
    "CertificateQuery",
    "CertificateQuota",
    "CertificateRecord",
    "CertificateState",
    "CertificateStatus",
    "ChangeEntry",
    "ChangeKind",
    "CrlContent",
    "CrlHead",
    "CrlRecord",
    "CrlStart",
    "EntryDigest",
    "FollowedEntry",
    "IssuanceOutcome",
    "KeyRecord",
    "NameMatch",
    "NodeRecord",
    "ObjectChange",
    "ObjectRecord",
    "Ownership",
    "PendingLeaves",
    "PublisherMark",
    "RevokedRow",
    "StatusChange",
    "StatusOutcome",
    "StatusRequest",
    "StoreHeads",
    "Vote",
]


class CertificateStatus(enum.StrEnum):
    """RFC 5280 section 5.3.1 in three words: a hold can be released, a revocation can't."""

    GOOD = "good"
    ON_HOLD = "on_hold"
    REVOKED = "revoked"


class ChangeKind(enum.StrEnum):
    """What a change-log entry tells its readers."""

    AUTHORITY = "authority"
    CERTIFICATE = "certificate"
    STATUS = "status"
    CRL = "crl"


class NameMatch(enum.StrEnum):
    """How a searched name is compared; exact and prefix searches use an index."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUBSTRING = "substring"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """One issued certificate. Times are whole seconds since the epoch.

    ``authority_id`` names the issuing key, not the CA's changeable name: the first 32 hexadecimal
    digits of SHA-256 over issuer name DER + SubjectPublicKeyInfo DER. ``request_id`` with
    ``origin`` is unique: the exactly-once key. ``request_digest`` tells a repeat from a reuse.
    ``tenant`` is whose it is, empty where it is nobody's but the CA's.
    """

    authority_id: str
    serial: int
    der: bytes
    subject: str
    names: tuple[str, ...]
    fingerprint_sha256: bytes
    not_before: int
    not_after: int
    profile: str
    issued_at: int
    requester: str = ""
    origin: str = ""
    via: str = ""
    tenant: str = ""
    request_id: bytes = b""
    request_digest: bytes = b""
    status: CertificateStatus = CertificateStatus.GOOD
    revoked_at: int | None = None
    reason: int | None = None
    """CRLReason number of RFC 5280."""
    invalidity_at: int | None = None
    crl_shard: int = 0
    """Which part of the CA's CRL its revocation is on; known where it was issued, 0 elsewhere."""


class CertificateState(NamedTuple):
    """What is said of a certificate to who checks it."""

    status: CertificateStatus
    revoked_at: int | None
    reason: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateQuota:
    """How many certificates a tenant may be issued in a period, and have valid at one time."""

    max_issued: int | None
    issued_period_seconds: int
    max_valid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceOutcome:
    """What a commit of an issuance did. ``repeated``: the request id had its certificate already,
    and ``certificate`` is that one; nothing was written.
    """

    certificate: CertificateRecord
    repeated: bool
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A revocation, hold or release to commit. ``status`` GOOD is a release from hold. Where
    ``tenants`` are given, nobody else's certificate is found.
    """

    authority_id: str
    serial: int
    status: CertificateStatus
    at: int
    reason: int | None = None
    invalidity_at: int | None = None
    tenants: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """A signed request for a change of status: carried out once, by whichever node it reaches."""

    origin: str
    request_id: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOutcome:
    """What became of a requested change of status. ``position`` is 0 when it was so already;
    ``repeated``: the request was carried out before, ``at`` says when.
    """

    position: int
    at: int
    repeated: bool


class ApprovalState(enum.StrEnum):
    """What has become of a request that needs approvals. One that waits ends with its time, too."""

    WAITING = "waiting"
    ISSUED = "issued"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """An approval. ``approver`` is a requester's name; ``chain`` encodes the nodes that brought it
    (``functions/approval_identity.py``).
    """

    approver: str
    chain: bytes
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """An enrolment that needs approvals. ``id`` is a digest of all that is approved, ``csr`` DER.

    ``request_id``, ``request_digest``, ``origin`` and ``tenant`` as in CertificateRecord.
    """

    id: bytes
    authority_id: str
    profile: str
    profile_digest: bytes
    request_id: bytes
    request_digest: bytes
    origin: str
    via: str
    tenant: str
    requester: str
    csr: bytes
    validity_seconds: int | None
    subject: str
    names: tuple[str, ...]
    needed: int
    opened_at: int
    expires_at: int
    state: ApprovalState = ApprovalState.WAITING
    ended_by: str = ""
    reason: str = ""
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What allows an issuance: the request for approval, and whose approvals count."""

    request: bytes
    approvers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalQuery:
    """Which requests for approval are wanted, oldest first. ``waiting_at`` leaves out what ended
    before this time; ``after`` continues behind this (opened_at, id). ``request`` wants one; the
    other fields leave out those of others.
    """

    authority_ids: tuple[str, ...]
    request: bytes | None = None
    tenants: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    asker: tuple[str, str] | None = None
    """Origin and requester."""
    waiting_at: int | None = None
    limit: int = 100
    after: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedEntry:
    """A change-log entry without its payload: what a node needs to know of another's work."""

    position: int
    kind: ChangeKind
    authority_id: str
    serial: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHeads:
    """How far the store is. ``log_id`` names its change log; every store has another, and another
    ``log_secret``.
    """

    position: int
    revision: int
    log_id: bytes
    log_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherMark:
    """How far a publisher is, which node runs it, and a number that moves while that node works."""

    position: int = 0
    holder: str = ""
    beat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node that started on this store; ``shares_passphrase``: it has one for shared keys."""

    name: str
    shares_passphrase: bool
    started_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Which node reads and writes, and which kinds of objects are its own, apart from those of the
    other nodes of the store. All else is common. Without a name, everything is common.
    """

    node: str = ""
    own_kinds: frozenset[str] = frozenset()

    def of(self, kind: str) -> str:
        """Return whose an object of ``kind`` is: this node's name, or nothing."""
        return self.node if kind in self.own_kinds else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntry:
    """One numbered entry of the change log. ``payload`` is MessagePack whose form ``kind`` fixes
    (``functions/change_payloads.py``), so that a reader needs no second query per entry.
    """

    position: int
    kind: ChangeKind
    authority_id: str
    serial: int | None
    at: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlContent:
    """What the pieces of a long CRL make up together."""

    sha256: bytes
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlRecord:
    """A CRL as made. ``base_number`` is set on a delta CRL, ``shard`` on a part of the CA's CRL.

    A long one has ``content`` instead of ``der``: read it with ``Reader.crl_pieces``.
    """

    authority_id: str
    number: int
    this_update: int
    next_update: int
    der: bytes
    base_number: int | None = None
    content: CrlContent | None = None
    shard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlHead:
    """A CRL without the list itself, which may be large. ``covers`` is a position of the change log
    whose every change of status is on it.
    """

    number: int
    this_update: int
    next_update: int
    covers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlOutlook:
    """A CA's newest full CRLs: how many there are, when the first of them ends, and whether a
    status has changed that one of them may lack.
    """

    count: int
    next_update: int
    is_uncovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlStart:
    """What a CRL is begun with: a number that no other of its shard gets, the position of the
    newest change of status that it is sure to hold, the newest list of its kind that there is (0:
    none), and the first date that it may have: not before a list of any kind, nor that of one of
    its own kind, for by their dates HTTP tells the lists of one address apart.
    """

    number: int
    covers: int
    newest: int
    not_before: int


RevokedRow = tuple[bytes, str, int | None, int | None, int | None, int | None]
"""What a CRL needs of a certificate, as it comes from the database, for there may be a million of
them: serial (20 octets), status, revoked_at, reason, invalidity_at, status_changed_at.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """A managed object: ``spec`` as JSON of its ``objects.py`` struct, ``state`` the node's own
    MessagePack (a CA's certificate chain, for example). ``generation`` counts changes of spec.
    """

    kind: str
    name: str
    spec: bytes
    state: bytes = b""
    generation: int = 1
    updated_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChange:
    """One step of an applied plan: ``record`` None deletes the object."""

    kind: str
    name: str
    record: ObjectRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A private key as its token records it: ``private_part`` is what the token finds it by, in a
    soft token the encrypted key itself (PKCS #8). ``node`` is whose it is, empty
    for a key that all nodes of the store use.
    """

    token: str
    label: str
    key_kind: str
    public_der: bytes
    private_part: bytes
    created_at: int
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A decision or a management act, before the log numbers and chains it."""

    at: float
    action: str
    allowed: bool
    chain: str
    """``requester via ra1 via proxy1``."""
    resources: tuple[str, ...] = ()
    reason: str = ""
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A record in the chained log: ``entry_hash`` = SHA-256 over previous hash + canonical body."""

    sequence: int
    record: AuditRecord
    previous_hash: bytes
    entry_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateQuery:
    """A search; absent fields don't restrict. ``name`` matches subject, common name or SAN without
    regard to case, as a substring unless ``name_match`` says otherwise.
    """

    authority_ids: tuple[str, ...] | None = None
    tenants: tuple[str, ...] | None = None
    serial: int | None = None
    name: str | None = None
    name_match: NameMatch = NameMatch.SUBSTRING
    status: CertificateStatus | None = None
    profile: str | None = None
    requester: str | None = None
    expires_before: int | None = None
    limit: int = 100
    after: tuple[int, str, int] | None = None
    """Continue behind this (issued_at, authority_id, serial)."""


class EntryDigest(msgspec.Struct, frozen=True, gc=False):
    """A certificate as two stores compare it: digests of what is said of it, and of itself (empty
    where only its status is known).
    """

    serial: int
    statuses: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLeaves:
    """Which buckets changed since their leaves were made, and how that was known."""

    newest_certificate: int
    marks: tuple[int, ...]
    buckets: dict[str, list[int]]
    has_more: bool
