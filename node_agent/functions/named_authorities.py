"""Which CAs a node's roles may name: its own, and those that a role lets another node answer for.

A role that names any other CA grants nothing, and a deny in it keeps nothing out. It is a typing
error, or the CA is still to come; either way it is told when it is written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from node_agent.errors import ConfigError
from node_agent.objects import PeerRoleSpec
from node_agent.policy import grants, parse_role
from node_agent.policy.resources import ANY_SEGMENT

if TYPE_CHECKING:
    from node_agent.functions.plan import Objects
    from node_agent.policy import Role

__all__ = ["check_named_authorities"]

# Who answers for a CA, or publishes what one records, is believed about the CAs that it names.
_ANSWERING = (
    *("/peer/upstream", "/peer/publish/certificate", "/peer/publish/status", "/peer/publish/crl"),
)
_MAX_REMEMBERED = 4096


def check_named_authorities(objects: Objects) -> None:
    """Raise ConfigError for a role that names a CA which is neither here nor anybody's to answer
    for.
    """
    roles = objects.get("peer_roles", {}).values()
    specs = [spec for spec in roles if isinstance(spec, PeerRoleSpec)]
    here = objects.get("certification_authorities", {})
    answering = [parse_role(spec) for spec in specs if _answers(spec)]
    for spec in specs:
        for index, name in () if _answers(spec) else _named(spec):
            if name in here or _is_answered(name, answering):
                continue
            known = ", ".join(sorted(here)) or "none here"
            raise ConfigError(
                f"names the CA {name!r}, which is unknown: it isn't on this node, and no role lets "
                "another node answer for it",
                where=f"peer_roles.{spec.name}.rules[{index}]",
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


def _is_answered(name: str, answering: list[Role]) -> bool:
    return any(grants(role.rules, f"/ca/{name}") for role in answering)
