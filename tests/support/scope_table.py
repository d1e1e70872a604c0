"""Every operation x protocol x what is near an attacker's scope: one table for all attackers.

EJBCA's holes were omissions for one protocol or one verb (CVE-2020-28942, CVE-2021-40088,
CVE-2022-34831), so the table is made of ``OPERATIONS`` itself: an operation without a request here
fails each test of the table. What an attacker may do is a ``Scope``, written by hand beside its
tests; everything else has to be denied.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingRequest,
    RejectRequest,
    WithdrawRequest,
)
from node_agent.peers.operations import (
    APPROVE,
    CATALOGUE,
    CERTIFY_SIGNER,
    ENROLL,
    OPERATIONS,
    PENDING,
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
    REJECT,
    REVOKE,
    SEARCH,
    STATUS,
    WITHDRAW,
    CatalogueRequest,
    CertifySignerRequest,
    ContentRequest,
    DigestsRequest,
    EnrollRequest,
    EntriesRequest,
    Operation,
    PositionRequest,
    PublishedEntry,
    PublishRequest,
    RecordsRequest,
    RepairedEntry,
    RepairRequest,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
)
from node_agent.wire import Status
from tests.support.hostile_requests import CSR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "ABSENT",
    "FOR_NO_CA",
    "METHODS",
    "NO_APPROVAL",
    "OK",
    "OWN_AUTHORITY",
    "PROTOCOLS",
    "TENANT",
    "VERDICTS",
    "Scope",
    "Try",
    "tries",
]

PROTOCOLS = ("rest", "est", "acme", "cmp", "", "admin")
"""Those that the policy knows, none at all, and one that doesn't exist."""

OWN_AUTHORITY, OWN_PROFILE = "issuing", "server"
# The next tenant's, the one that makes authenticators, and with the usual protocol only: the
# issuers of one's own, one that isn't there, and names that would be patterns.
_OTHERS = ("other", "management")
_ODD = ("root", "root-issuing", "nowhere", "**", "issuing/x")
_ODD_PROFILES = ("nothing", "builtin.issuing", "*", "server/../private")

FOR_NO_CA = "for no CA"
"""A variant in which the authority is moot: it is tried once."""

METHODS = sorted(OPERATIONS)
VERDICTS = frozenset({APPROVE.method, REJECT.method, WITHDRAW.method})
NO_APPROVAL = bytes(32)


@dataclass(frozen=True, slots=True)
class Try:
    """One request: ``variant`` names what kind of it, where an operation has several."""

    operation: Operation[Any, Any]
    authority: str
    profile: str = ""
    protocol: str = ""
    variant: str = ""

    def __str__(self) -> str:
        parts = (self.operation.method, self.protocol, self.authority, self.profile, self.variant)
        return " ".join(part or "-" for part in parts)

    def request(
        self, *, serial: bytes = b"\1", approval: bytes = NO_APPROVAL, source: str = ""
    ) -> Any:
        """Return the request about ``serial`` or ``approval``, where it is about one of these.
        ``source`` is whose log is published: the attacker's own, or what the log says is moot.
        """
        return _REQUESTS[self.operation.method](_Subject(self, serial, approval, source))[
            self.variant
        ]


@dataclass(frozen=True, slots=True)
class _Subject:
    case: Try
    serial: bytes
    approval: bytes
    source: str

    @property
    def place(self) -> dict[str, Any]:
        return {"authority": self.case.authority}

    @property
    def at(self) -> dict[str, Any]:
        return {**self.place, "protocol": self.case.protocol}

    @property
    def after(self) -> dict[str, Any]:
        return {**self.at, "profile": self.case.profile}

    @property
    def log(self) -> dict[str, Any]:
        return {**self.place, "authority_id": "0" * 32}


def _one(make: Callable[[_Subject], Any]) -> Callable[[_Subject], dict[str, Any]]:
    return lambda about: {"": make(about)}


def _batches(about: _Subject) -> dict[str, Any]:
    def batch(*kinds: str, authorities: tuple[str, ...] = (about.case.authority,)) -> Any:
        entries = tuple(
            PublishedEntry(
                position=0, kind=kind, authority_id="0" * 32, serial=about.serial, at=1, payload=b""
            )
            for kind in kinds
        )
        return PublishRequest(about.source, 0, 0, authorities, entries)

    kinds = ("authority", "certificate", "status", "crl", "object")
    return {
        "of nothing": batch(),
        FOR_NO_CA: batch(authorities=()),
        "mixed": batch("crl", "status"),
        **{kind: batch(kind) for kind in kinds},
    }


def _positions(about: _Subject) -> dict[str, Any]:
    name = (about.case.authority,)
    return {
        "": PositionRequest(about.source, name),
        FOR_NO_CA: PositionRequest(about.source, ()),
        "complete": PositionRequest(about.source, name, complete=name),
        "partial": PositionRequest(about.source, (), partial=name),
    }


def _repairs(about: _Subject) -> dict[str, Any]:
    def repair(*surplus: bytes, takes_back: bool = False) -> RepairRequest:
        entry = RepairedEntry(serial=about.serial, certificate=b"", status=b"")
        return RepairRequest(
            **about.log,
            content=("status",),
            entries=(entry,),
            surplus=surplus,
            takes_back=takes_back,
        )

    return {
        "": repair(),
        "surplus": repair(about.serial),
        "takes back": repair(takes_back=True),
    }


def _content(about: _Subject) -> ContentRequest:
    return ContentRequest(
        **about.log, number=1 << 40, is_delta=False, sha256=bytes(32), octets=1 << 29, offset=0
    )


def _pending(about: _Subject) -> PendingRequest:
    return PendingRequest(
        **about.at, approval=None if about.approval == NO_APPROVAL else about.approval
    )


_REQUESTS: dict[str, Callable[[_Subject], dict[str, Any]]] = {
    ENROLL.method: _one(lambda about: EnrollRequest(**about.after, csr=CSR)),
    PENDING.method: _one(_pending),
    APPROVE.method: _one(lambda about: ApproveRequest(**about.after, approval=about.approval)),
    REJECT.method: _one(lambda about: RejectRequest(**about.after, approval=about.approval)),
    WITHDRAW.method: _one(lambda about: WithdrawRequest(**about.after, approval=about.approval)),
    REVOKE.method: _one(lambda about: RevokeRequest(**about.at, serial=about.serial, reason=6)),
    STATUS.method: _one(lambda about: StatusRequest(**about.at, serial=about.serial)),
    SEARCH.method: _one(lambda about: SearchRequest(**about.at)),
    CATALOGUE.method: _one(lambda about: CatalogueRequest()),
    CERTIFY_SIGNER.method: _one(lambda about: CertifySignerRequest(**about.place, csr=CSR)),
    PUBLISH.method: _batches,
    PUBLISH_CONTENT.method: _one(_content),
    PUBLISH_DIGESTS.method: _one(
        lambda about: DigestsRequest(
            **about.log, content=("status",), prefixes=("",), begins=True, recomputes=True
        )
    ),
    PUBLISH_ENTRIES.method: _one(
        lambda about: EntriesRequest(**about.log, buckets=tuple(range(1024)))
    ),
    PUBLISH_POSITION.method: _positions,
    PUBLISH_RECORDS.method: _one(
        lambda about: RecordsRequest(**about.log, serials=(about.serial,))
    ),
    PUBLISH_REPAIR.method: _repairs,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a role grants, as its operator would say it. ``may`` has, by method, how what is granted
    is answered; the catalogue is open to whoever is linked, and holds what they are granted.
    """

    may: Mapping[str, frozenset[Status]] = field(default_factory=dict)
    authorities: frozenset[str] | None = frozenset({OWN_AUTHORITY})
    variants: frozenset[str] | None = None
    catalogue: Status = Status.OK

    def outcomes(self, case: Try) -> frozenset[Status]:
        """Return how a try may be answered; nothing when it has to be denied."""
        method = case.operation.method
        if method == CATALOGUE.method:
            return frozenset({self.catalogue})
        if self.authorities is not None and case.authority not in self.authorities:
            return frozenset()
        if self.variants is not None and case.variant not in self.variants:
            return frozenset()
        if case.protocol not in ("rest", "") or case.profile not in (OWN_PROFILE, ""):
            return frozenset()
        if not case.protocol and "protocol" in case.operation.request_type.__struct_fields__:
            return frozenset()
        return self.may.get(method, frozenset())

    def allows(self, case: Try) -> bool:
        """Tell whether the role grants what is tried."""
        return bool(self.outcomes(case))


OK, ABSENT = frozenset({Status.OK}), frozenset({Status.NOT_FOUND})

TENANT = Scope(
    {
        **dict.fromkeys((ENROLL.method, REVOKE.method, STATUS.method), OK),
        **dict.fromkeys((SEARCH.method, PENDING.method), OK),
        **dict.fromkeys(VERDICTS, ABSENT),
    }
)
"""What every RA of the tests' chains may do, asked about a certificate of its own; there is no
request that waits, for a verdict to find."""


def tries(method: str) -> Iterator[Try]:
    """Yield every try of one operation."""
    operation = OPERATIONS[method]
    # A search may name a profile, and needs none.
    fields = {item.name: item.required for item in msgspec.structs.fields(operation.request_type)}
    protocols = PROTOCOLS if "protocol" in fields else ("",)
    profiles = (OWN_PROFILE, "private") if fields.get("profile") else ("",)
    places = (*itertools.product((OWN_AUTHORITY, *_OTHERS), protocols),)
    if not {"authority", "authorities"} & fields.keys():
        places = places[:1]
    else:
        places += tuple(itertools.product(_ODD, protocols[:1]))
    cases = [
        Try(operation, authority, profile, protocol)
        for (authority, protocol), profile in itertools.product(places, profiles)
    ]
    if fields.get("profile"):
        cases += [Try(operation, OWN_AUTHORITY, odd, protocols[0]) for odd in _ODD_PROFILES]
    for case in cases:
        variants = _REQUESTS[method](_Subject(case, b"\1", NO_APPROVAL, ""))
        for variant in variants:
            if variant == FOR_NO_CA and case.authority != OWN_AUTHORITY:
                continue
            yield Try(operation, case.authority, case.profile, case.protocol, variant)
