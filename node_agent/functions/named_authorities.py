"""Which CAs a node's roles and publishers may name: its own, and those that a role lets another
node answer for.

A role that names any other CA grants nothing, and a deny in it keeps nothing out; a publisher sends
nothing of it, and reports itself well. It is a typing error, or the CA is still to come; either way
it is told when it is written.

A CA's name is its address, ``ca/<name>``, so behind one node it is one tenant's. Several nodes may
serve it, as those of one store do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity
from node_agent.objects import PeerRoleSpec, PublisherSpec
from node_agent.policy import MemberKind, grants, parse_role
from node_agent.policy.resources import ANY_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.functions.plan import Objects, Step
    from node_agent.policy import Role

__all__ = ["check_named_authorities", "check_published_authorities"]

# Who answers for a CA, or publishes what one records, is believed about the CAs that it names.
_ANSWERING = (
    *("/peer/upstream", "/peer/publish/certificate", "/peer/publish/status", "/peer/publish/crl"),
)
_AUTHORITIES = "certification_authorities"
_MAX_REMEMBERED = 4096


def check_named_authorities(objects: Objects) -> None:
    """Raise ConfigError for a role that names a CA which is neither here nor anybody's to answer
    for, and for two that let nodes of different tenants serve a CA of one name.
    """
    specs = _role_specs(objects)
    here = objects.get(_AUTHORITIES, {})
    _check_one_tenant(specs)
    answering = [parse_role(spec) for spec in specs if _answers(spec)]
    for spec in specs:
        for index, name in () if _answers(spec) else _named(spec):
            if name not in here and not _is_answered(name, answering):
                raise _unknown(objects, name, where=f"peer_roles.{spec.name}.rules[{index}]")


def check_published_authorities(objects: Objects, steps: Sequence[Step]) -> None:
    """Raise ConfigError when a publisher that ``steps`` write names a CA which is neither here nor
    anybody's to answer for, or when they delete a CA that a publisher names.

    Taking a role away is never refused for a publisher's sake: it may be a role of a node that was
    taken over.
    """
    written = {step.name for step in steps if step.kind == "publishers"}
    deleted = {step.name for step in steps if step.after is None and step.kind == _AUTHORITIES}
    if not written | deleted:
        return
    here = objects.get(_AUTHORITIES, {})
    answering = [parse_role(spec) for spec in _role_specs(objects) if _answers(spec)]
    for spec in objects.get("publishers", {}).values():
        assert isinstance(spec, PublisherSpec)
        concerned = set(spec.authorities) - set(here)
        if spec.name not in written:
            concerned &= deleted
        for name in sorted(concerned):
            if not _is_answered(name, answering):
                raise _unknown(objects, name, where=f"publishers.{spec.name}.authorities")


def _role_specs(objects: Objects) -> list[PeerRoleSpec]:
    roles = objects.get("peer_roles", {}).values()
    return [spec for spec in roles if isinstance(spec, PeerRoleSpec)]


def _unknown(objects: Objects, name: str, *, where: str) -> ConfigError:
    known = ", ".join(sorted(objects.get(_AUTHORITIES, {}))) or "none here"
    return ConfigError(
        f"names the CA {name!r}, which is unknown: it isn't on this node, and no role lets another "
        "node answer for it",
        where=where,
        remedy=f"create the CA first, or correct the name; known: {known}",
    )


@lru_cache(maxsize=_MAX_REMEMBERED)
def _answers(spec: PeerRoleSpec) -> bool:
    rules = parse_role(spec).rules
    return any(grants(rules, resource) for resource in _ANSWERING)


@lru_cache(maxsize=_MAX_REMEMBERED)
def _named(spec: PeerRoleSpec) -> tuple[tuple[int, str], ...]:
    """Return the CAs that a role names literally, with the number of the rule."""
    return tuple(
        (index, rule.pattern[1])
        for index, rule in enumerate(parse_role(spec).rules)
        if len(rule.pattern) > 1
        and rule.pattern[0] in ("ca", "signer")
        and ANY_SEGMENT not in rule.pattern[1]
    )


def _check_one_tenant(specs: Sequence[PeerRoleSpec]) -> None:
    """A request for one tenant's CA would go to the other's, who may deny it for good."""
    first: dict[str, PeerRoleSpec] = {}
    for spec in specs:
        for index, name in _served(spec):
            other = first.setdefault(name, spec)
            if _is_of_another_tenant(spec, other):
                raise ConfigError(
                    f"lets a node serve the CA {name!r}, which the role {other.name!r} has another "
                    "tenant's node serve: a request for it could reach either",
                    where=f"peer_roles.{spec.name}.rules[{index}]",
                    remedy="rename one of the two CAs, or give each tenant a proxy of its own",
                )


def _is_of_another_tenant(one: PeerRoleSpec, other: PeerRoleSpec) -> bool:
    """Tell by the tenant, where both roles name theirs, and by the trust domains of members."""
    if one.tenant and other.tenant and one.tenant != other.tenant:
        return True
    domains, others = _trust_domains(one), _trust_domains(other)
    return bool(domains and others) and domains.isdisjoint(others)


@lru_cache(maxsize=_MAX_REMEMBERED)
def _trust_domains(spec: PeerRoleSpec) -> frozenset[str]:
    return frozenset(
        NodeIdentity.parse(member.value).trust_domain
        for member in parse_role(spec).members
        if member.kind is MemberKind.NODE
    )


@lru_cache(maxsize=_MAX_REMEMBERED)
def _served(spec: PeerRoleSpec) -> tuple[tuple[int, str], ...]:
    """Return the CAs that a role names literally for its members to serve."""
    rules = parse_role(spec).rules
    if not grants(rules, "/peer/upstream"):
        return ()
    return tuple(
        (index, name)
        for index, name in _named(spec)
        if rules[index].pattern[0] == "ca" and grants(rules, f"/ca/{name}")
    )


def _is_answered(name: str, answering: list[Role]) -> bool:
    return any(grants(role.rules, f"/ca/{name}") for role in answering)
