"""Every operation of the peer protocol: its name, its messages, and the resources it needs.

There is no management operation here, and none can be added without being seen: the dispatcher
knows these and nothing else. Method names never change meaning after release.

MessagePack integers end at 64 bits, serial numbers at 160: serials travel as big-endian octets
(``serial_octets``, ``serial_number``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec

from node_agent.clock import EpochSeconds  # noqa: TC001  # msgspec resolves the annotation
from node_agent.peers import fields  # noqa: TC001  # as above
from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingAnswer,
    PendingRequest,
    RejectRequest,
    VerdictAnswer,
    Waiting,
    WithdrawRequest,
)
from node_agent.peers.fields import serial_number, serial_octets
from node_agent.peers.publish_resources import (
    PUBLISHES,
    position_resources,
    publish_resources,
    repair_resources,
)
from node_agent.peers.repair_messages import (
    RecordsAnswer,
    RecordsRequest,
    RepairAnswer,
    RepairedEntry,
    RepairRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "APPROVE",
    "CATALOGUE",
    "CERTIFY_SIGNER",
    "ENROLL",
    "OPERATIONS",
    "PENDING",
    "PUBLISH",
    "PUBLISH_CONTENT",
    "PUBLISH_DIGESTS",
    "PUBLISH_ENTRIES",
    "PUBLISH_POSITION",
    "PUBLISH_RECORDS",
    "PUBLISH_REPAIR",
    "REJECT",
    "REVOKE",
    "SEARCH",
    "STATUS",
    "WITHDRAW",
    "AuthorityDescription",
    "CatalogueAnswer",
    "CatalogueRequest",
    "CertificateAnswer",
    "CertificateDescription",
    "CertifySignerRequest",
    "ComparedEntry",
    "ContentAnswer",
    "ContentRequest",
    "DigestsAnswer",
    "DigestsRequest",
    "EnrollRequest",
    "EntriesAnswer",
    "EntriesRequest",
    "Operation",
    "PositionAnswer",
    "PositionRequest",
    "PublishAnswer",
    "PublishRequest",
    "PublishedEntry",
    "RecordsAnswer",
    "RecordsRequest",
    "RepairAnswer",
    "RepairRequest",
    "RepairedEntry",
    "RevokeAnswer",
    "RevokeRequest",
    "SearchAnswer",
    "SearchRequest",
    "StatusRequest",
    "serial_number",
    "serial_octets",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class EnrollRequest(_Message, frozen=True):
    """Ask ``authority`` for a certificate after ``profile``. ``csr`` is DER.

    ``protocol`` is the enrolment protocol at the RA (rest, est, acme, cmp).
    """

    authority: str
    profile: str
    csr: bytes
    protocol: str = "rest"
    validity_seconds: int | None = None


class CertificateAnswer(_Message, frozen=True):
    """A certificate and its chain without the root, DER, leaf first. No chain, and what it waits
    for, when the certificate has to be approved first: the same request asks again.
    """

    chain: tuple[bytes, ...]
    repeated: bool = False
    waiting: Waiting | None = None


class RevokeRequest(_Message, frozen=True):
    """Revoke, hold or release. ``reason`` is an RFC 5280 CRLReason number; 8 releases a hold."""

    authority: str
    serial: fields.Serial
    reason: int = 0
    invalidity_at: EpochSeconds | None = None
    protocol: str = "rest"


class RevokeAnswer(_Message, frozen=True):
    """The status after the request. ``changed`` is False when it was so already. ``position``, the
    place in the change log, is always 0 for peers: it would count what others ask.
    """

    status: str
    revoked_at: int | None
    reason: int | None
    position: int
    changed: bool


class StatusRequest(_Message, frozen=True):
    """Ask for one certificate of ``authority``."""

    authority: str
    serial: fields.Serial
    protocol: str = "rest"


class CertificateDescription(_Message, frozen=True):
    """A certificate as search and status return it."""

    authority: str
    serial: fields.Serial
    subject: str
    names: tuple[str, ...]
    profile: str
    requester: str
    not_before: int
    not_after: int
    status: str
    revoked_at: int | None
    reason: int | None
    der: bytes


class SearchRequest(_Message, frozen=True):
    """Search the certificates of ``authority``; absent fields don't restrict."""

    authority: str
    name: str | None = None
    status: str | None = None
    profile: str | None = None
    requester: str | None = None
    expires_before: EpochSeconds | None = None
    limit: int = 100
    after: str | None = None
    protocol: str = "rest"


class SearchAnswer(_Message, frozen=True):
    """Matches, newest first; ``after`` continues the search, None at its end."""

    certificates: tuple[CertificateDescription, ...]
    after: str | None


class CatalogueRequest(_Message, frozen=True, omit_defaults=True):
    """Ask what this peer may ask for; ``after`` is the name of the last CA that was answered."""

    after: str | None = None


class AuthorityDescription(_Message, frozen=True):
    """A CA that the asker may use: chain with root (DER, issuer first) and granted profiles."""

    name: str
    chain: tuple[bytes, ...]
    profiles: tuple[str, ...]


class CatalogueAnswer(_Message, frozen=True, omit_defaults=True):
    """Only what the whole chain of askers is granted, in the order of the CAs' names. ``after``:
    ask again with it; absent at the end.
    """

    authorities: tuple[AuthorityDescription, ...]
    after: str | None = None


class CertifySignerRequest(_Message, frozen=True):
    """A VA asks for the certificate of its OCSP signing key for ``authority``. ``csr`` is DER."""

    authority: str
    csr: bytes


class PublishedEntry(_Message, frozen=True):
    """A change-log entry on its way. ``payload`` as in ``functions/change_payloads.py``."""

    position: fields.Number
    kind: str
    authority_id: str
    serial: fields.Serial | None
    at: EpochSeconds
    payload: bytes


class PublishRequest(_Message, frozen=True):
    """A batch of change-log entries of ``source``, in order, complete above ``after``.

    ``source`` is the identity of the node (or shared store) whose log it is. ``position`` is the
    position that the reader reaches with this batch: it may lie above the last entry's where the
    entries between were filtered out. ``receipt`` is kept with the position and shown when it is
    asked for; what is in it only the sender knows.
    """

    source: str
    after: fields.Number
    position: fields.Number
    authorities: tuple[str, ...]
    entries: tuple[PublishedEntry, ...]
    receipt: fields.Receipt = b""


class PublishAnswer(_Message, frozen=True):
    """The position that is committed at the receiver."""

    position: fields.Number


class ContentRequest(_Message, frozen=True):
    """Pieces of a long CRL of ``authority``, in the request's body: what follows ``offset``.

    ``sha256`` and ``octets`` are those of the whole list. Without a body it asks what is here.
    """

    authority: str
    authority_id: str
    number: fields.Number
    is_delta: bool
    sha256: bytes
    octets: fields.Number
    offset: fields.Number
    shard: fields.Number = 0


class ContentAnswer(_Message, frozen=True):
    """How much of the list is stored at the receiver, from its beginning on; all of it also where
    the receiver has a newer one.
    """

    held: fields.Number


class DigestsRequest(_Message, frozen=True):
    """Ask for the digests below nodes of a CA's digest tree (``functions/range_digests.py``).

    ``content`` names what they are over. Each prefix is up to three hexadecimal digits. ``begins``
    is set on the first request of a comparison: the tree is then brought up to date;
    ``recomputes`` has every leaf made anew for it.
    """

    authority: str
    authority_id: str
    content: tuple[str, ...]
    prefixes: Annotated[tuple[fields.Prefix, ...], msgspec.Meta(min_length=1, max_length=1024)]
    begins: bool = False
    recomputes: bool = False


class DigestsAnswer(_Message, frozen=True):
    """For each prefix the digests of its sixteen children; and how many entries there are.

    ``may_take_back`` says whether the asker's repairs may take a revocation back.
    """

    digests: tuple[bytes, ...]
    entries: int
    may_take_back: bool = False


class EntriesRequest(_Message, frozen=True):
    """Ask for the entries in some leaves, with a serial above ``after``."""

    authority: str
    authority_id: str
    buckets: Annotated[tuple[fields.Bucket, ...], msgspec.Meta(min_length=1, max_length=1024)]
    after: fields.Serial = b"\0"


class ComparedEntry(_Message, frozen=True, array_like=True):
    """A certificate as two stores compare it."""

    serial: fields.Serial
    statuses: fields.Digest
    certificate: fields.Digest


class EntriesAnswer(_Message, frozen=True):
    """Entries in the order of their serials. ``has_more``: ask again behind the last one."""

    entries: tuple[ComparedEntry, ...]
    has_more: bool


class PositionRequest(_Message, frozen=True):
    """Ask up to where the log of ``source`` has been applied, and say what comes from it.

    ``age_seconds``: all that the CAs had done so long ago has been sent; None: not all of it.
    ``complete`` names the CAs of which every certificate is published, ``partial`` those of which
    only the revoked ones are. ``path`` are the logs through which it came, the CA's first and the
    asker's last: who finds its own among them is part of a loop.
    """

    source: str
    authorities: tuple[str, ...]
    age_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    complete: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    path: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()


class PositionAnswer(_Message, frozen=True):
    """The position that is committed at the receiver, with the receipt that came with it; 0 when it
    knows nothing of the source.
    """

    position: fields.Number
    receipt: fields.Receipt = b""


RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT, AnswerT]):
    """One operation. ``resources`` lists what *every* identity of the chain must be granted;
    ``audience`` names whom a signed request is for: ``ca/<name>`` is whoever holds that CA, None
    the node at the other end of the link.

    A handler that ``changes_state`` commits the audit entry with its own transaction, and what it
    needs to do nothing when the same request id comes again; otherwise the dispatcher writes the
    entry. With ``audits_allowed`` False only denials are audited: what the
    operation did is recorded elsewhere (a published batch is the change log itself) or is
    nothing that could be held against anyone. ``is_for_one_node`` lets
    an operation without an audience of its own pass relays: it is then addressed to one node, and
    everyone in the chain needs some role there. Of ``one_of``, which resources a request needs
    though it may name none of them, each identity needs one at least. How long a handler that
    ``reads_body`` takes is up to who sends it.
    """

    method: str
    request_type: type[RequestT]
    answer_type: type[AnswerT]
    resources: Callable[[RequestT], tuple[str, ...]]
    audience: Callable[[RequestT], str | None]
    changes_state: bool = False
    audits_allowed: bool = True
    is_for_one_node: bool = False
    one_of: tuple[str, ...] = ()
    reads_body: bool = False

    @property
    def may_be_replayed(self) -> bool:
        """Whether it is a read that passes nodes, and each of them could read with it again."""
        passes_nodes = self.is_for_one_node or self.audience is _authority_audience
        return passes_nodes and not self.changes_state


def _at_authority(verb: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda request: (
        f"/ra/{verb}",
        f"/ca/{request.authority}",
        f"/protocol/{request.protocol}",
    )


def _at_profile(verb: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda request: (
        f"/ra/{verb}",
        f"/ca/{request.authority}",
        f"/profile/{request.profile}",
        f"/protocol/{request.protocol}",
    )


def _authority_audience(request: Any) -> str:
    return f"ca/{request.authority}"


ENROLL: Operation[EnrollRequest, CertificateAnswer] = Operation(
    "ra.enroll",
    EnrollRequest,
    CertificateAnswer,
    _at_profile("enroll"),
    _authority_audience,
    changes_state=True,
)
PENDING: Operation[PendingRequest, PendingAnswer] = Operation(
    "ra.pending", PendingRequest, PendingAnswer, _at_authority("approve"), _authority_audience
)
APPROVE: Operation[ApproveRequest, VerdictAnswer] = Operation(
    "ra.approve",
    ApproveRequest,
    VerdictAnswer,
    _at_profile("approve"),
    _authority_audience,
    changes_state=True,
)
REJECT: Operation[RejectRequest, VerdictAnswer] = Operation(
    "ra.reject",
    RejectRequest,
    VerdictAnswer,
    _at_profile("approve"),
    _authority_audience,
    changes_state=True,
)
WITHDRAW: Operation[WithdrawRequest, VerdictAnswer] = Operation(
    "ra.withdraw",
    WithdrawRequest,
    VerdictAnswer,
    _at_profile("enroll"),
    _authority_audience,
    changes_state=True,
)
REVOKE: Operation[RevokeRequest, RevokeAnswer] = Operation(
    "ra.revoke",
    RevokeRequest,
    RevokeAnswer,
    _at_authority("revoke"),
    _authority_audience,
    changes_state=True,
)
STATUS: Operation[StatusRequest, CertificateDescription] = Operation(
    "ra.status", StatusRequest, CertificateDescription, _at_authority("status"), _authority_audience
)
SEARCH: Operation[SearchRequest, SearchAnswer] = Operation(
    "ra.search", SearchRequest, SearchAnswer, _at_authority("search"), _authority_audience
)
CATALOGUE: Operation[CatalogueRequest, CatalogueAnswer] = Operation(
    "ra.catalogue",
    CatalogueRequest,
    CatalogueAnswer,
    # Whoever may be linked may ask; the answer holds only what the whole chain is granted.
    lambda r: (),
    lambda r: None,
    audits_allowed=False,
    is_for_one_node=True,
)
CERTIFY_SIGNER: Operation[CertifySignerRequest, CertificateAnswer] = Operation(
    "signer.certify",
    CertifySignerRequest,
    CertificateAnswer,
    lambda r: (f"/signer/{r.authority}/renew", f"/ca/{r.authority}"),
    _authority_audience,
    changes_state=True,
)
PUBLISH: Operation[PublishRequest, PublishAnswer] = Operation(
    "publish.batch",
    PublishRequest,
    PublishAnswer,
    publish_resources,
    lambda r: None,
    changes_state=True,
    audits_allowed=False,
    one_of=PUBLISHES,
)
PUBLISH_CONTENT: Operation[ContentRequest, ContentAnswer] = Operation(
    "publish.content",
    ContentRequest,
    ContentAnswer,
    lambda r: ("/peer/publish/crl", f"/ca/{r.authority}"),
    lambda r: None,
    changes_state=True,
    audits_allowed=False,
    reads_body=True,
)
PUBLISH_DIGESTS: Operation[DigestsRequest, DigestsAnswer] = Operation(
    "publish.digests",
    DigestsRequest,
    DigestsAnswer,
    lambda r: ("/peer/publish/read", f"/ca/{r.authority}"),
    lambda r: None,
    audits_allowed=False,
)
PUBLISH_ENTRIES: Operation[EntriesRequest, EntriesAnswer] = Operation(
    "publish.entries",
    EntriesRequest,
    EntriesAnswer,
    lambda r: ("/peer/publish/read", f"/ca/{r.authority}"),
    lambda r: None,
    audits_allowed=False,
)
PUBLISH_RECORDS: Operation[RecordsRequest, RecordsAnswer] = Operation(
    "publish.records",
    RecordsRequest,
    RecordsAnswer,
    lambda r: ("/peer/publish/read", f"/ca/{r.authority}"),
    lambda r: None,
)
PUBLISH_REPAIR: Operation[RepairRequest, RepairAnswer] = Operation(
    "publish.repair",
    RepairRequest,
    RepairAnswer,
    repair_resources,
    lambda r: None,
    changes_state=True,
)
PUBLISH_POSITION: Operation[PositionRequest, PositionAnswer] = Operation(
    "publish.position",
    PositionRequest,
    PositionAnswer,
    position_resources,
    lambda r: None,
    audits_allowed=False,
    one_of=PUBLISHES,
)

OPERATIONS: dict[str, Operation[Any, Any]] = {
    operation.method: operation
    for operation in (
        ENROLL,
        PENDING,
        APPROVE,
        REJECT,
        WITHDRAW,
        REVOKE,
        STATUS,
        SEARCH,
        CATALOGUE,
        CERTIFY_SIGNER,
        PUBLISH,
        PUBLISH_CONTENT,
        PUBLISH_DIGESTS,
        PUBLISH_ENTRIES,
        PUBLISH_POSITION,
        PUBLISH_RECORDS,
        PUBLISH_REPAIR,
    )
}
