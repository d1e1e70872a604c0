"""Whose certificates a peer's are, which it may see, and how many it may have.

A role belongs to a tenant: the one that it names, or one of its own name. What its members enrol is
that tenant's, and by default they see nothing else. Only the origin counts: it signed the request,
while a proxy carries what all its tenants ask and is asked for nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node_agent.policy.decide import grants
from node_agent.policy.model import Quota

if TYPE_CHECKING:
    from node_agent.policy.decide import RoleSet
    from node_agent.policy.model import Role, Subject

__all__ = ["Tenancy", "tenancy_of"]


@dataclass(frozen=True, slots=True)
class Tenancy:
    """``tenant`` owns what is enrolled now, empty where no role grants enrolment. ``visible`` are
    the tenants whose certificates may be seen, None for those of everybody.
    """

    tenant: str
    visible: tuple[str, ...] | None
    quota: Quota


def tenancy_of(roles: RoleSet, subject: Subject) -> Tenancy:
    """Return the tenancy of ``subject``. Of several roles that grant enrolment, the first by name
    counts.
    """
    return roles.by_roles(subject, _tenancy)


def _tenancy(roles: tuple[Role, ...]) -> Tenancy:
    mine = sorted(roles, key=lambda role: role.name)
    enrolling = next((role for role in mine if grants(role.rules, "/ra/enroll")), None)
    sees_all = any(role.sees_all for role in mine)
    return Tenancy(
        tenant="" if enrolling is None else enrolling.tenant,
        visible=None if sees_all else tuple(sorted({role.tenant for role in mine})),
        quota=Quota() if enrolling is None else enrolling.quota,
    )
