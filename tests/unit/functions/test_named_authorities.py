"""A role or publisher that names a CA which nobody knows is refused when it is written."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node_agent.errors import ConfigError
from node_agent.functions.named_authorities import (
    check_named_authorities,
    check_published_authorities,
)
from node_agent.functions.plan import Objects, copy_objects, plan_object
from node_agent.objects import (
    AccessRule,
    CertificationAuthoritySpec,
    ObjectSpec,
    PeerRoleSpec,
    PublisherSpec,
)

ISSUING = CertificationAuthoritySpec(name="issuing", kind="root", subject="CN=I")


def role(name: str, *resources: str) -> PeerRoleSpec:
    rules = tuple(
        AccessRule(
            resource=resource.lstrip("!"), effect="deny" if resource.startswith("!") else "allow"
        )
        for resource in resources
    )
    return PeerRoleSpec(name=name, rules=rules)


def check(*roles: PeerRoleSpec, has_ca: bool = True) -> None:
    check_named_authorities(
        {
            "certification_authorities": {"issuing": ISSUING} if has_ca else {},
            "peer_roles": {item.name: item for item in roles},
        }
    )


@pytest.mark.parametrize("resource", ["/ca/isuing", "!/ca/isuing", "/signer/isuing/renew"])
def test_an_unknown_ca_is_refused_with_the_rule_and_what_is_known(resource: str) -> None:
    with pytest.raises(ConfigError, match="'isuing', which is unknown") as caught:
        check(role("ra1", "/ra/enroll", resource))
    assert caught.value.where == "peer_roles.ra1.rules[1]"
    assert "known: issuing" in caught.value.remedy


@pytest.mark.parametrize("resource", ["/ca/issuing", "/ca/*", "/ca/**", "/**", "/signer/*/renew"])
def test_a_ca_of_this_node_and_patterns_are_taken(resource: str) -> None:
    check(role("ra1", "/ra/enroll", resource))


@pytest.mark.parametrize("right", ["/peer/upstream", "/peer/publish/crl", "/peer/**"])
def test_who_answers_for_a_ca_makes_it_known(right: str) -> None:
    upstream = role("ca1", right, "/ca/elsewhere")
    check(upstream, role("tenant", "/ra/enroll", "/ca/elsewhere"), has_ca=False)
    with pytest.raises(ConfigError, match="'other'"):
        check(upstream, role("tenant", "/ra/enroll", "/ca/other"), has_ca=False)


def test_who_only_passes_requests_on_makes_none_known() -> None:
    with pytest.raises(ConfigError, match="none here"):
        check(role("proxy1", "/peer/incoming", "/peer/relay", "/ca/elsewhere"), has_ca=False)


VA = "spiffe://test.example/node/va1"
PUBLISHED = role("ca1", "/peer/publish/**", "/ca/elsewhere")


def published(*authorities: str) -> PublisherSpec:
    return PublisherSpec(name="va1", peer=VA, authorities=authorities)


def objects(*specs: tuple[str, ObjectSpec]) -> Objects:
    found: Objects = {}
    for kind, spec in specs:
        found.setdefault(kind, {})[spec.name] = spec
    return found


def change(before: Objects, kind: str, name: str, spec: ObjectSpec | None) -> None:
    steps = plan_object(before, kind, name, spec)
    check_published_authorities(copy_objects(before, steps), steps)


def test_a_publisher_of_an_unknown_ca_is_refused_with_what_is_known() -> None:
    here = objects(("certification_authorities", ISSUING))
    change(here, "publishers", "va1", published("issuing"))
    with pytest.raises(ConfigError, match="'isuing', which is unknown") as caught:
        change(here, "publishers", "va1", published("issuing", "isuing"))
    assert caught.value.where == "publishers.va1.authorities"
    assert "known: issuing" in caught.value.remedy


def test_a_va_publishes_what_a_role_lets_another_node_publish_to_it() -> None:
    told = objects(("peer_roles", PUBLISHED))
    change(told, "publishers", "va1", published("elsewhere"))
    with pytest.raises(ConfigError, match="'other'"):
        change(told, "publishers", "va1", published("elsewhere", "other"))


def test_a_ca_that_a_publisher_names_cannot_be_deleted() -> None:
    before = objects(("certification_authorities", ISSUING), ("publishers", published("issuing")))
    with pytest.raises(ConfigError, match=r"publishers\.va1\.authorities"):
        change(before, "certification_authorities", "issuing", None)


def test_a_publisher_keeps_no_role_from_being_taken_away() -> None:
    before = objects(("peer_roles", PUBLISHED), ("publishers", published("elsewhere")))
    change(before, "peer_roles", "ca1", None)


def serving(
    name: str, *, member: str, tenant: str | None = None, ca: str = "/ca/issuing"
) -> PeerRoleSpec:
    upstream = role(name, "/peer/incoming", "/peer/upstream", ca)
    return replace(upstream, members=(f"spiffe://{member}",), tenant=tenant)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            serving("ca-a", member="pki.example/node/ca-a", tenant="alpha"),
            serving("ca-b", member="pki.example/node/ca-b", tenant="beta"),
            id="tenants",
        ),
        pytest.param(
            serving("ca-a", member="alpha.example/node/ca1"),
            serving("ca-b", member="beta.example/node/ca1"),
            id="trust domains",
        ),
    ],
)
def test_a_ca_of_one_name_at_nodes_of_two_tenants_is_refused(
    first: PeerRoleSpec, second: PeerRoleSpec
) -> None:
    with pytest.raises(ConfigError, match="the CA 'issuing'") as caught:
        check(first, second, has_ca=False)
    assert caught.value.where == "peer_roles.ca-b.rules[2]"
    assert caught.value.remedy
    other = role("ca-b", "/peer/incoming", "/peer/upstream", "/ca/other")
    check(first, replace(second, rules=other.rules), has_ca=False)


def test_nodes_of_one_store_serve_a_ca_together() -> None:
    first, second = (
        serving(name, member=f"pki.example/node/{name}", tenant=tenant)
        for name, tenant in (("ca1", "operator"), ("ca2", None))
    )
    check(first, second, has_ca=False)


def test_one_who_only_asks_and_names_a_ca_is_not_who_serves_it() -> None:
    asking = replace(
        role("ra-b", "/peer/incoming", "/ra/enroll", "/ca/issuing"),
        members=("spiffe://beta.example/node/ra1",),
        tenant="beta",
    )
    check(serving("ca-a", member="alpha.example/node/ca1", tenant="alpha"), asking, has_ca=False)
