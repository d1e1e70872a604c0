"""The values of a decision. All are immutable: a role set is replaced, never changed."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from node_agent.identity import PeerIdentity

__all__ = [
    "AccessRequest",
    "Decision",
    "Member",
    "MemberKind",
    "NameKind",
    "PermittedName",
    "Quota",
    "Requester",
    "Role",
    "Rule",
    "Subject",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Requester:
    """A person or machine that this node itself authenticated, by the name of its object."""

    name: str

    def __str__(self) -> str:
        return self.name


Subject = PeerIdentity | Requester
"""Whoever stands in a chain and needs the grant."""


class MemberKind(enum.StrEnum):
    """By what a role recognizes its members."""

    NODE = "spiffe"
    FINGERPRINT = "fingerprint"
    SPKI = "spki"
    SERIAL = "serial"
    REQUESTER = "requester"


@dataclass(frozen=True, slots=True)
class Member:
    """One way to belong to a role. ``value`` is normalized: equal members have equal values."""

    kind: MemberKind
    value: str

    def __str__(self) -> str:
        return self.value if self.kind is MemberKind.NODE else f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow or deny what ``pattern`` matches. ``where`` names the rule for people."""

    pattern: tuple[str, ...]
    allows: bool
    where: str

    @property
    def resource(self) -> str:
        """The pattern as it is written."""
        return "/" + "/".join(self.pattern)

    def __str__(self) -> str:
        return f"{self.where} ({'allow' if self.allows else 'deny'} {self.resource})"


NameKind = Literal["dns", "ip", "email", "uri"]


@dataclass(frozen=True, slots=True)
class PermittedName:
    """Names of one kind that a role may ask for; ``where`` names the role for people."""

    kind: NameKind
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class Quota:
    """How many certificates a tenant gets: issued in any ``issued_period_seconds``, and valid at
    one time. None is no bound.
    """

    max_issued_certificates: int | None = None
    issued_period_seconds: int = 86400
    max_valid_certificates: int | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """Members and their rules; ``name`` as in the object it was parsed from. ``tenant`` owns what
    its members enrol; with ``sees_all`` they see the certificates of every tenant. Without
    ``permitted_names`` they may ask for any.
    """

    name: str
    members: frozenset[Member]
    rules: tuple[Rule, ...]
    tenant: str = ""
    sees_all: bool = False
    quota: Quota = Quota()
    permitted_names: tuple[PermittedName, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What is asked: ``resources`` are all needed, by everyone in ``chain`` (origin first)."""

    operation: str
    resources: tuple[str, ...]
    chain: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one subject and one resource. ``rule`` is empty where none matched."""

    subject: Subject
    resource: str
    allowed: bool
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a request. ``rule`` and ``reason`` are those of the first verdict that denied;
    ``trace`` has every verdict, subject by subject.
    """

    operation: str
    allowed: bool
    reason: str
    rule: str = ""
    trace: tuple[Verdict, ...] = field(default=(), repr=False)
