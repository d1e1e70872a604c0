"""Role templates: what kinds of peers need, as plain rules.

A template is a way of writing, not a kind of role: ``expand_role`` is applied before a role is
compared with what the node has, and the rules are what is stored, shown and explained. So a release
that means another thing by a template changes nobody's rights until somebody writes the role again
and sees the difference, and two nodes on one store can't read one role differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from node_agent.errors import ConfigError
from node_agent.objects import AccessRule, PeerRoleSpec, RoleParameters
from node_agent.policy.parse import parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["expand_role"]

_LINKED: Final = {
    "registration_authority": ("/peer/incoming",),
    "tenant": (),
    "proxy": ("/peer/incoming", "/peer/relay"),
    "validation_authority": ("/peer/incoming",),
    "publisher": ("/peer/incoming", "/peer/upstream"),
}
"""What each template grants whatever its parameters are."""

_REGISTERS: Final = ("authorities", "profiles", "protocols", "operations")
_USED: Final = {
    "registration_authority": _REGISTERS,
    "tenant": _REGISTERS,
    "proxy": _REGISTERS,
    "validation_authority": ("authorities",),
    "publisher": ("authorities", "publishes"),
}
"""The parameters of each template."""

_NEED_PROFILES: Final = {"enroll", "approve"}


def expand_role(spec: PeerRoleSpec) -> PeerRoleSpec:
    """Return ``spec`` with the rules of its template behind its own, and without the template.

    Raises ConfigError for parameters that are missing, that the template has no use for, or that
    name nothing that could be granted.
    """
    where = f"peer_roles.{spec.name}"
    if spec.template is None:
        if spec.parameters is not None:
            raise ConfigError(
                "are those of a template, and there is none",
                where=f"{where}.parameters",
                remedy=f"add template: one of {', '.join(_LINKED)}",
            )
        return spec
    parameters = spec.parameters or RoleParameters()
    _check(spec.template, parameters, f"{where}.parameters")
    own = {rule.resource for rule in spec.rules if rule.effect == "allow"}
    added = dict.fromkeys(_resources(spec.template, parameters, f"{where}.parameters"))
    rules = tuple(AccessRule(resource=resource) for resource in added if resource not in own)
    return msgspec.structs.replace(
        spec, rules=(*spec.rules, *rules), template=None, parameters=None
    )


def _check(template: str, parameters: RoleParameters, where: str) -> None:
    unset = RoleParameters()
    for field in parameters.__struct_fields__:
        if field not in _USED[template] and getattr(parameters, field) != getattr(unset, field):
            raise ConfigError(
                f"is no parameter of the template {template}",
                where=f"{where}.{field}",
                remedy=f"it takes {', '.join(_USED[template])}",
            )
    if template == "proxy":
        # It may stand there before its first tenant comes.
        return
    if not parameters.authorities:
        raise ConfigError(
            "is empty: the role would grant nothing of any CA",
            where=f"{where}.authorities",
            remedy="name the CAs, or * for every one",
        )
    needs_profiles = "profiles" in _USED[template] and _NEED_PROFILES & {*parameters.operations}
    if needs_profiles and not parameters.profiles:
        raise ConfigError(
            "is empty: nothing could be enrolled",
            where=f"{where}.profiles",
            remedy="name the profiles, or * for every one; or leave enroll and approve out of "
            "operations",
        )


def _resources(template: str, parameters: RoleParameters, where: str) -> Iterator[str]:
    yield from _LINKED[template]
    if template == "publisher":
        yield from (f"/peer/publish/{what}" for what in parameters.publishes)
    if "operations" in _USED[template] and parameters.authorities:
        yield from (f"/ra/{verb}" for verb in parameters.operations)
        yield from (f"/protocol/{name}" for name in parameters.protocols)
    for index, name in enumerate(parameters.authorities):
        yield _checked(f"/ca/{name}", f"{where}.authorities[{index}]")
        if template == "validation_authority":
            yield _checked(f"/signer/{name}/renew", f"{where}.authorities[{index}]")
    for index, name in enumerate(parameters.profiles):
        yield _checked(f"/profile/{name}", f"{where}.profiles[{index}]")


def _checked(resource: str, where: str) -> str:
    """Return ``resource``. Raises ConfigError with the parameter's place, not the rule's."""
    parse_rule(AccessRule(resource=resource), where=where)
    return resource
