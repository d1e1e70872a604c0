"""A role that names a CA which nobody knows is refused when it is written."""

from __future__ import annotations

import pytest

from node_agent.errors import ConfigError
from node_agent.functions.named_authorities import check_named_authorities
from node_agent.objects import AccessRule, CertificationAuthoritySpec, PeerRoleSpec

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
