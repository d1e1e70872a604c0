"""``peersys role explain``: the decision as it would be made, with every verdict that led to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from node_agent.errors import ConfigError, NotFound
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.peers.chain_policy import decide_chain
from node_agent.peers.operations import ENROLL, OPERATIONS, Operation
from node_agent.policy import (
    AccessRequest,
    Decision,
    NameKind,
    Requester,
    RoleSet,
    Subject,
    Verdict,
    decide,
    judge_names,
)
from node_agent.web.backends import AccessExplanation, AccessQuestion, TraceStep

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["explain_access"]

_FILLERS: Final[dict[str, object]] = {
    **dict.fromkeys(("csr", "approval", "serial", "sha256"), b""),
    **dict.fromkeys(("source", "authority_id"), ""),
    **dict.fromkeys(("after", "position", "number", "octets", "offset"), 0),
    **dict.fromkeys(("entries", "content", "prefixes", "buckets", "surplus"), ()),
    "is_delta": False,
}
"""What requests are about beside what a question names. A batch that is published is judged as an
empty one: each kind of entry takes its own ``/peer/publish/…`` as well.
"""


def explain_access(
    question: AccessQuestion,
    roles: RoleSet,
    known_as: Callable[[NodeIdentity], PeerIdentity] = PeerIdentity.named,
) -> AccessExplanation:
    """Decide ``question`` under ``roles``. Raises NotFound for an unknown operation, ConfigError
    for one that needs an authority or profile that isn't given, or a chain that can't be one.

    ``known_as`` tells which certificate a node has now, for roles that pin it.
    """
    operation = OPERATIONS.get(question.operation)
    if operation is None:
        known = ", ".join(sorted(OPERATIONS))
        raise NotFound(f"there is no operation {question.operation!r}; operations are {known}")
    chain = _chain(question, known_as)
    decision = _with_names(_decide(operation, question, chain, roles), question, chain, roles)
    trace = tuple(_step(verdict, chain) for verdict in decision.trace)
    return AccessExplanation(
        allowed=decision.allowed,
        reason=decision.reason,
        rule=decision.rule,
        resources=tuple(dict.fromkeys(step.resource for step in trace if step.resource)),
        decided_by=next((step for step in trace if not step.allowed), None),
        trace=trace,
    )


def _chain(
    question: AccessQuestion, known_as: Callable[[NodeIdentity], PeerIdentity]
) -> tuple[Subject, ...]:
    """A requester's request is decided at its RA, before there is a chain."""
    if question.identity.startswith("spiffe://"):
        return tuple(
            known_as(NodeIdentity.parse(uri)) for uri in (question.identity, *question.via)
        )
    if question.via:
        raise ConfigError(
            "a requester asks at an RA", where="via", remedy="give the RA's identity instead"
        )
    return (Requester(question.identity),)


def _decide(
    operation: Operation[msgspec.Struct, msgspec.Struct],
    question: AccessQuestion,
    chain: tuple[Subject, ...],
    roles: RoleSet,
) -> Decision:
    resources = operation.resources(_sample(operation, question))
    peers = tuple(subject for subject in chain if isinstance(subject, PeerIdentity))
    if not peers:
        return decide(AccessRequest(operation.method, resources, chain), roles)
    return decide_chain(operation, resources, peers, roles)


def _with_names(
    decision: Decision, question: AccessQuestion, chain: tuple[Subject, ...], roles: RoleSet
) -> Decision:
    """Hold everyone to the names that they may ask for, as an RA and a CA do after the grants."""
    if not question.names:
        return decision
    if question.operation != ENROLL.method:
        raise ConfigError(
            f"{question.operation} asks for no name", where="names", remedy="ask about ra.enroll"
        )
    asked = [_asked_name(text) for text in question.names]
    alternative = [(kind, value) for kind, value in asked if kind != "cn"]
    common = [value for kind, value in asked if kind == "cn"]
    verdicts = tuple(judge_names(chain, alternative, common, roles))
    trace = (*decision.trace, *verdicts)
    refusal = next((verdict for verdict in verdicts if not verdict.allowed), None)
    if not decision.allowed or refusal is None:
        return replace(decision, trace=trace)
    return Decision(decision.operation, False, refusal.reason, refusal.rule, trace)


def _asked_name(text: str) -> tuple[NameKind | Literal["cn"], str]:
    kind, _, value = text.partition(":")
    for known in (*get_args(NameKind), "cn"):
        if kind == known and value:
            return known, value
    raise ConfigError(
        f"{text!r} is no name to ask for",
        where="names",
        remedy="write dns:, ip:, email:, uri: or, for a common name, cn: and the name",
    )


def _step(verdict: Verdict, chain: tuple[Subject, ...]) -> TraceStep:
    subject = verdict.subject
    place = chain.index(subject)
    origin = "origin" if isinstance(subject, PeerIdentity) else "requester"
    return TraceStep(
        link=f"via {place}" if place else origin,
        identity=_name_of(subject),
        resource=verdict.resource,
        allowed=verdict.allowed,
        rule=verdict.rule,
        reason=verdict.reason,
    )


def _name_of(subject: Subject) -> str:
    return subject.node.uri if isinstance(subject, PeerIdentity) else subject.name


def _sample(
    operation: Operation[msgspec.Struct, msgspec.Struct], question: AccessQuestion
) -> msgspec.Struct:
    """Return a request of the operation's type that names what the question names."""
    given = {
        "authority": question.authority,
        "authorities": None if question.authority is None else (question.authority,),
        "profile": question.profile,
        "protocol": question.protocol,
    }
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(operation.request_type):
        wanted = given.get(field.name, _FILLERS.get(field.name))
        if wanted is not None:
            values[field.name] = wanted
        elif field.required:
            raise ConfigError(f"{operation.method} needs it", where=field.name.rstrip("s"))
    return operation.request_type(**values)
