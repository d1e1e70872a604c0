"""Whose certificates a peer's are and which it sees, by its roles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.policy import Quota, parse_role, parse_roles, tenancy_of

RA = PeerIdentity(NodeIdentity("t.example", "ra1"), "CN=R", 1, "a" * 64, "b" * 64)
OTHER = PeerIdentity(NodeIdentity("t.example", "ra2"), "CN=R", 2, "c" * 64, "d" * 64)


def role(name: str, *resources: str, member: PeerIdentity = RA, **fields: Any) -> PeerRoleSpec:
    rules = tuple(AccessRule(resource=resource) for resource in resources)
    return PeerRoleSpec(name=name, members=(member.node.uri,), rules=rules, **fields)


def test_nobody_without_a_role_owns_or_sees_anything() -> None:
    found = tenancy_of(parse_roles([role("other", "/ra/**", member=OTHER)]), RA)
    assert (found.tenant, found.visible, found.quota) == ("", (), Quota())


def test_a_role_is_a_tenant_of_its_own_name_unless_it_names_one() -> None:
    own = tenancy_of(parse_roles([role("ra1", "/ra/**")]), RA)
    assert (own.tenant, own.visible) == ("ra1", ("ra1",))
    named = tenancy_of(parse_roles([role("ra1", "/ra/**", tenant="acme")]), RA)
    assert (named.tenant, named.visible) == ("acme", ("acme",))


def test_the_first_role_by_name_that_grants_enrolment_owns() -> None:
    roles = parse_roles(
        [
            role("c", "/ra/**", max_valid_certificates=3),
            role("b", "/ra/enroll", max_valid_certificates=2),
            role("a", "/ra/search", max_valid_certificates=1),
        ]
    )
    found = tenancy_of(roles, RA)
    assert (found.tenant, found.visible) == ("b", ("a", "b", "c"))
    assert found.quota.max_valid_certificates == 2


@pytest.mark.parametrize("seconds", [1, 3599, 5400, 32 * 86400])
def test_a_period_that_isnt_counted_is_refused(seconds: int) -> None:
    with pytest.raises(ConfigError, match="issued_period_seconds"):
        parse_role(role("ra1", issued_period_seconds=seconds))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]),
            st.sampled_from([RA, OTHER]),
            st.sampled_from([None, "acme", "beta"]),
            st.sampled_from(["own", "own", "own", "all"]),
        ),
        unique_by=lambda item: item[0],
    )
)
def test_nothing_is_seen_but_by_a_role_of_ones_own(
    drawn: list[tuple[str, PeerIdentity, str | None, Any]],
) -> None:
    specs = [
        role(name, "/ra/**", member=who, tenant=tenant, certificate_scope=scope)
        for name, who, tenant, scope in drawn
    ]
    found = tenancy_of(parse_roles(specs), RA)
    mine = [spec for spec in specs if spec.members == (RA.node.uri,)]
    if any(spec.certificate_scope == "all" for spec in mine):
        assert found.visible is None
    else:
        assert set(found.visible or ()) == {spec.tenant or spec.name for spec in mine}
        assert found.tenant == "" or found.tenant in (found.visible or ())
