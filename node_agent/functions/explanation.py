"""``peersys role explain``: the decision as it would be made, with every verdict that led to it."""

from __future__ import annotations

import msgspec

from node_agent.errors import ConfigError, NotFound
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.peers.chain_policy import decide_chain
from node_agent.peers.operations import OPERATIONS, Operation
from node_agent.policy import AccessRequest, Decision, Requester, RoleSet, Subject, decide
from node_agent.web.backends import AccessExplanation, AccessQuestion, TraceStep

__all__ = ["explain_access"]


def explain_access(question: AccessQuestion, roles: RoleSet) -> AccessExplanation:
    """Decide ``question`` under ``roles``. Raises NotFound for an unknown operation, ConfigError
    for one that needs an authority or profile that isn't given, or a chain that can't be one.
    """
    operation = OPERATIONS.get(question.operation)
    if operation is None:
        known = ", ".join(sorted(OPERATIONS))
        raise NotFound(f"there is no operation {question.operation!r}; operations are {known}")
    resources = operation.resources(_sample(operation, question))
    decision = _decide(operation, resources, question, roles)
    return AccessExplanation(
        allowed=decision.allowed,
        reason=decision.reason,
        rule=decision.rule,
        resources=tuple(dict.fromkeys(verdict.resource for verdict in decision.trace)),
        trace=tuple(
            TraceStep(
                identity=_name_of(verdict.subject),
                resource=verdict.resource,
                allowed=verdict.allowed,
                rule=verdict.rule or verdict.reason,
            )
            for verdict in decision.trace
        ),
    )


def _decide(
    operation: Operation[msgspec.Struct, msgspec.Struct],
    resources: tuple[str, ...],
    question: AccessQuestion,
    roles: RoleSet,
) -> Decision:
    """A requester's request is decided at its RA, before there is a chain."""
    if not question.identity.startswith("spiffe://"):
        if question.via:
            raise ConfigError(
                "a requester asks at an RA", where="via", remedy="give the RA's identity instead"
            )
        requester = Requester(question.identity)
        return decide(AccessRequest(operation.method, resources, (requester,)), roles)
    chain = tuple(map(_peer, (question.identity, *question.via)))
    return decide_chain(operation, resources, chain, roles)


def _peer(identity: str) -> PeerIdentity:
    """A node by its URI. Exact pins can't be asked about by name."""
    return PeerIdentity(NodeIdentity.parse(identity), "", 0, "", "")


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
    fillers = {
        "csr": b"",
        "serial": b"\x00",
        "source": "",
        "after": 0,
        "position": 0,
        "entries": (),
    }
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(operation.request_type):
        wanted = given.get(field.name, fillers.get(field.name))
        if wanted is not None:
            values[field.name] = wanted
        elif field.required:
            raise ConfigError(f"{operation.method} needs it", where=field.name.rstrip("s"))
    return operation.request_type(**values)
