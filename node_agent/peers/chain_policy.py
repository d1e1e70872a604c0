"""What a request needs of everyone who brings it: the one definition, for deciding and explaining.

The chain is the origin, the nodes that the request passed, and the link's peer last. All of it
needs every resource of the operation; the link's peer needs to be linked at all, and to relay where
it brings what another node signed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node_agent.policy import AccessRequest, Decision, RoleSet, Verdict, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node_agent.identity import PeerIdentity
    from node_agent.peers.operations import Operation

__all__ = ["decide_chain"]

Question = tuple[tuple[str, ...], tuple["PeerIdentity", ...]]


def decide_chain(
    operation: Operation[Any, Any],
    resources: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    roles: RoleSet,
) -> Decision:
    """Decide for the whole chain; the trace has every verdict up to the one that refuses."""
    trace: tuple[Any, ...] = ()
    decision = Decision(operation.method, False, "nobody asks: the chain is empty")
    for needed, subjects in _questions(operation, resources, chain, roles):
        decision = decide(AccessRequest(operation.method, needed, subjects), roles)
        trace += decision.trace
        if not decision.allowed:
            return replace(decision, trace=trace)
    refusal = _stranger(operation, chain, roles) or _grantless(operation, chain, roles)
    if refusal is not None:
        return Decision(operation.method, False, refusal.reason, "", (*trace, refusal))
    return replace(decision, trace=trace)


def _questions(
    operation: Operation[Any, Any],
    resources: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    roles: RoleSet,
) -> Iterator[Question]:
    if len(chain) == 1:
        yield ("/peer/incoming", *resources), chain
    else:
        yield ("/peer/incoming", "/peer/relay"), chain[-1:]
        # ``decide`` grants nothing to whom nothing is asked for.
        if not operation.is_for_one_node:
            yield resources, chain
    if _is_only_a_relay(chain[0], resources, roles):
        yield ("/peer/origin",), chain[:1]


def _is_only_a_relay(origin: PeerIdentity, resources: Sequence[str], roles: RoleSet) -> bool:
    """Tell whether the origin has its rights for carrying what others ask.

    Each node on the way is granted what its tenants are, so without this a proxy's own signature
    would do for all that they may ask.
    """
    asks = any(resource.startswith("/ra/") for resource in resources)
    return asks and roles.permits(origin, "/peer/relay")


def _stranger(
    operation: Operation[Any, Any], chain: tuple[PeerIdentity, ...], roles: RoleSet
) -> Verdict | None:
    """Refuse who in a chain has no role at all, where an operation needs no resource of its own."""
    if not operation.is_for_one_node or len(chain) == 1:
        return None
    for subject in chain:
        if not roles.roles_of(subject):
            return Verdict(subject, "", False, "", f"{subject.node} has no role")
    return None


def _grantless(
    operation: Operation[Any, Any], chain: tuple[PeerIdentity, ...], roles: RoleSet
) -> Verdict | None:
    """Refuse who in a chain is granted none of the resources of which an operation needs one."""
    if not operation.one_of:
        return None
    for subject in chain:
        if not any(roles.permits(subject, resource) for resource in operation.one_of):
            needed = " or ".join(operation.one_of)
            reason = f"{subject.node} is granted none of {needed}"
            return Verdict(subject, operation.one_of[0], False, "", reason)
    return None
