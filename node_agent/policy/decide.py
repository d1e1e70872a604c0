"""The decision. Default deny; deny wins; all resources, for everyone in the chain.

A RoleSet is compiled once and replaced as a whole, so what it remembers of earlier answers goes
with it: there is no cache that could outlive a role change. Rules are compiled into two tries per
subject (what is denied, what is allowed); a lookup walks at most two branches per segment, however
many rules there are, and those that match a part of a name, one after another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from node_agent.identity import PeerIdentity
from node_agent.policy.model import (
    AccessRequest,
    Decision,
    Member,
    MemberKind,
    PermittedName,
    Requester,
    Role,
    Rule,
    Subject,
    Verdict,
)
from node_agent.policy.resources import (
    ALL_BELOW,
    ANY_SEGMENT,
    is_partial,
    is_resource,
    matches_segment,
    split_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["RoleSet", "decide", "grants", "name_of"]

AnswerT = TypeVar("AnswerT")

# A peer chooses the names that it asks for. What is remembered of them is bounded: this many
# subjects and this many verdicts (some 80 MB), then forgotten and computed anew. A publisher for
# 10,000 CAs names each of them in every batch.
_MAX_SUBJECTS = 4096
_MAX_VERDICTS = 1 << 18


class RoleSet:
    """All roles of a node, compiled. Immutable to its users; safe to share between tasks."""

    __slots__ = ("_grants", "_remembered", "_roles_of_member", "roles")

    def __init__(self, roles: Iterable[Role] = ()) -> None:
        self.roles = tuple(roles)
        self._roles_of_member: dict[Member, list[Role]] = {}
        for role in self.roles:
            for member in role.members:
                self._roles_of_member.setdefault(member, []).append(role)
        self._grants: dict[Subject, _Grants] = {}
        self._remembered = 0

    def roles_of(self, subject: Subject) -> tuple[Role, ...]:
        """Return the roles that ``subject`` belongs to, each once, by whichever of its marks."""
        return self._grants_of(subject).roles

    def by_roles(self, subject: Subject, answer: Callable[[tuple[Role, ...]], AnswerT]) -> AnswerT:
        """Return what ``answer``, a module's function, makes of the roles of ``subject``.

        It is asked once for each subject: this stands before every request.
        """
        known = self._grants_of(subject)
        found: AnswerT
        if answer in known.answers:
            found = known.answers[answer]
        else:
            found = known.answers[answer] = answer(known.roles)
        return found

    def verdict(self, subject: Subject, resource: str) -> Verdict:
        """Return whether ``subject`` is granted ``resource``, and by or for lack of which rule."""
        return self._verdict(self._grants_of(subject), resource)

    def permitted_names(self, subject: Subject) -> tuple[PermittedName, ...]:
        """Return which names ``subject`` may ask for; nothing where none of its roles says."""
        return self.by_roles(subject, _permitted_names)

    def permits(self, subject: Subject, resource: str) -> bool:
        """Tell whether ``subject`` is granted ``resource``."""
        return self.verdict(subject, resource).allowed

    def _verdict(self, known: _Grants, resource: str) -> Verdict:
        verdict = known.verdicts.get(resource)
        if verdict is None:
            if self._remembered >= _MAX_VERDICTS:
                self._forget()
            self._remembered += 1
            verdict = known.verdicts[resource] = known.judge(resource)
        return verdict

    def _forget(self) -> None:
        for known in self._grants.values():
            known.verdicts.clear()
        self._remembered = 0

    def _grants_of(self, subject: Subject) -> _Grants:
        known = self._grants.get(subject)
        if known is None:
            if len(self._grants) >= _MAX_SUBJECTS:
                self._grants.clear()
                self._remembered = 0
            known = self._grants[subject] = _Grants(subject, self._find_roles(subject))
        return known

    def _find_roles(self, subject: Subject) -> tuple[Role, ...]:
        found = {
            id(role): role
            for member in _members_of(subject)
            for role in self._roles_of_member.get(member, ())
        }
        return tuple(found.values())


def decide(request: AccessRequest, roles: RoleSet) -> Decision:
    """Decide ``request`` under ``roles``. Pure: the same arguments give the same decision."""
    if not request.chain:
        return Decision(request.operation, False, "nobody asks: the chain is empty")
    if not request.resources:
        return Decision(request.operation, False, "the operation names no resource")
    trace: list[Verdict] = []
    refusal: Verdict | None = None
    for subject in request.chain:
        subject_grants = roles._grants_of(subject)
        for resource in request.resources:
            verdict = roles._verdict(subject_grants, resource)
            trace.append(verdict)
            if refusal is None and not verdict.allowed:
                refusal = verdict
    if refusal is not None:
        return Decision(request.operation, False, refusal.reason, refusal.rule, tuple(trace))
    return Decision(
        request.operation, True, "every resource is granted", trace[0].rule, tuple(trace)
    )


def grants(rules: Sequence[Rule], resource: str) -> bool:
    """Tell whether ``rules`` alone grant ``resource``: the definition, in the fewest words.

    The compiled form is tested against this.
    """
    segments = split_path(resource)
    if segments is None or not is_resource(resource):
        return False
    matching = [rule for rule in rules if _matches(rule.pattern, segments)]
    return bool(matching) and all(rule.allows for rule in matching)


def _matches(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if pattern[-1] == ALL_BELOW:
        head = pattern[:-1]
        return len(segments) > len(head) and _matches_each(head, segments)
    return len(segments) == len(pattern) and _matches_each(pattern, segments)


def _matches_each(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return all(
        matches_segment(part, segment) for part, segment in zip(pattern, segments, strict=False)
    )


def _permitted_names(roles: tuple[Role, ...]) -> tuple[PermittedName, ...]:
    return tuple(name for role in roles for name in role.permitted_names)


def _members_of(subject: Subject) -> tuple[Member, ...]:
    if isinstance(subject, Requester):
        return (Member(MemberKind.REQUESTER, subject.name),)
    return (
        Member(MemberKind.NODE, subject.node.uri),
        Member(MemberKind.FINGERPRINT, subject.fingerprint_sha256),
        Member(MemberKind.SPKI, subject.spki_sha256),
        Member(MemberKind.SERIAL, f"{subject.serial:x}@{subject.issuer}"),
    )


class _Grants:
    """What one subject may do, with the verdicts and other answers given so far."""

    __slots__ = ("_allow", "_deny", "_subject", "answers", "roles", "verdicts")

    def __init__(self, subject: Subject, roles: tuple[Role, ...]) -> None:
        rules = [rule for role in roles for rule in role.rules]
        self.roles = roles
        self.answers: dict[Callable[[tuple[Role, ...]], Any], Any] = {}
        self._subject = subject
        self._allow = _Trie(rule for rule in rules if rule.allows)
        self._deny = _Trie(rule for rule in rules if not rule.allows)
        self.verdicts: dict[str, Verdict] = {}

    def judge(self, resource: str) -> Verdict:
        """Return whether ``resource`` is granted, whatever was said before."""
        segments = split_path(resource)
        who = name_of(self._subject)
        if segments is None or not is_resource(resource):
            return Verdict(self._subject, resource, False, "", f"{resource!r} is no resource")
        denied = self._deny.find(segments)
        if denied is not None:
            reason = f"{denied.where} denies {resource} to {who}"
            return Verdict(self._subject, resource, False, str(denied), reason)
        allowed = self._allow.find(segments)
        if allowed is None:
            lacking = "is not granted" if self.roles else "has no role, so is not granted"
            return Verdict(self._subject, resource, False, "", f"{who} {lacking} {resource}")
        reason = f"{allowed.where} grants {resource} to {who}"
        return Verdict(self._subject, resource, True, str(allowed), reason)


def name_of(subject: Subject) -> str:
    """Return what a subject is called in a reason."""
    return subject.node.uri if isinstance(subject, PeerIdentity) else f"requester {subject.name}"


class _Trie:
    """Patterns by segment. ``rule`` ends a pattern here; ``below`` is a ``**`` from here on.
    ``partial`` are those of ``children`` that match a part of a name.
    """

    __slots__ = ("below", "children", "partial", "rule")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.children: dict[str, _Trie] = {}
        self.partial: list[str] = []
        self.rule: Rule | None = None
        self.below: Rule | None = None
        for rule in rules:
            self._insert(rule)

    def _insert(self, rule: Rule) -> None:
        node = self
        for segment in rule.pattern:
            if segment == ALL_BELOW:
                node.below = node.below or rule
                return
            if is_partial(segment) and segment not in node.children:
                node.partial.append(segment)
            node = node.children.setdefault(segment, _Trie())
        node.rule = node.rule or rule

    def find(self, segments: tuple[str, ...]) -> Rule | None:
        """Return a rule that matches, the most exact one first."""
        if not segments:
            return self.rule
        for key in (segments[0], *self._partly(segments[0]), ANY_SEGMENT):
            child = self.children.get(key)
            found = child.find(segments[1:]) if child is not None else None
            if found is not None:
                return found
        return self.below

    def _partly(self, segment: str) -> Iterable[str]:
        return (pattern for pattern in self.partial if matches_segment(pattern, segment))
