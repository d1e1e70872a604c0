"""Whose certificates a peer's are, which it may see, how many it may have, and whose it approves.

A role belongs to a tenant: the one that it names, or one of its own name. What its members enrol is
that tenant's, and by default they see nothing else. Only the origin counts: it signed the request,
while a proxy carries what all its tenants ask and is asked for nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node_agent.policy.decide import grants
from node_agent.policy.model import Quota

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.policy.decide import RoleSet
    from node_agent.policy.model import Role, Subject

__all__ = ["Tenancy", "approvable_by", "tenancy_of"]

_ABOUT_CERTIFICATES: Final = ("/ra/enroll", "/ra/revoke", "/ra/status", "/ra/search")


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
    counts. A role that grants nothing about certificates shows none.
    """
    return roles.by_roles(subject, _tenancy)


def approvable_by(roles: RoleSet, subject: Subject) -> tuple[str, ...] | None:
    """Return whose requests ``subject`` may list and decide: the tenants of those of its roles that
    grant approving, None for everybody's. So an approver needs no sight of certificates.
    """
    return roles.by_roles(subject, _approvable)


def _tenancy(roles: tuple[Role, ...]) -> Tenancy:
    mine = sorted(_granting(roles, _ABOUT_CERTIFICATES), key=lambda role: role.name)
    enrolling = next((role for role in mine if grants(role.rules, "/ra/enroll")), None)
    return Tenancy(
        tenant="" if enrolling is None else enrolling.tenant,
        visible=_tenants(mine),
        quota=Quota() if enrolling is None else enrolling.quota,
    )


def _approvable(roles: tuple[Role, ...]) -> tuple[str, ...] | None:
    return _tenants(_granting(roles, ("/ra/approve",)))


def _granting(roles: Iterable[Role], resources: Sequence[str]) -> list[Role]:
    return [role for role in roles if any(grants(role.rules, resource) for resource in resources)]


def _tenants(roles: Sequence[Role]) -> tuple[str, ...] | None:
    if any(role.sees_all for role in roles):
        return None
    return tuple(sorted({role.tenant for role in roles}))
