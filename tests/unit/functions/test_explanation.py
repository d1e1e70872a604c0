"""A decision is explained by the code that makes it, for every link of the chain."""

from __future__ import annotations

import pytest

from node_agent.errors import ConfigError, NotFound
from node_agent.functions.explanation import explain_access
from node_agent.web.backends import AccessQuestion
from tests.support.peer_nodes import identity_of, roles_of

RA = ["/ra/*", "/ca/issuing", "/profile/server", "/protocol/rest"]
ROLES = roles_of(
    {
        "ra1": ["/peer/incoming", *RA],
        "tenant1": RA,
        "proxy1": ["/peer/incoming", "/peer/relay", *RA],
        "proxy2": ["/peer/relay", *RA, "!/ca/issuing"],
    }
)


def ask(identity: str, operation: str = "ra.enroll", *via: str) -> AccessQuestion:
    return AccessQuestion(
        identity=identity_of(identity).uri,
        operation=operation,
        via=tuple(identity_of(name).uri for name in via),
        authority="issuing",
        profile="server",
    )


def test_a_linked_ra_is_allowed_by_its_rules() -> None:
    answer = explain_access(ask("ra1"), ROLES)
    assert answer.allowed
    assert answer.resources[0] == "/peer/incoming"
    assert {step.identity for step in answer.trace} == {identity_of("ra1").uri}


def test_a_tenant_is_allowed_through_its_proxy_and_not_directly() -> None:
    assert not explain_access(ask("tenant1"), ROLES).allowed
    answer = explain_access(ask("tenant1", "ra.enroll", "proxy1"), ROLES)
    assert answer.allowed
    assert {step.identity for step in answer.trace} == {
        identity_of("tenant1").uri,
        identity_of("proxy1").uri,
    }


def test_the_link_of_the_chain_that_denies_is_named_with_its_rule() -> None:
    answer = explain_access(ask("tenant1", "ra.enroll", "proxy2", "proxy1"), ROLES)
    assert not answer.allowed
    assert "proxy2" in answer.reason
    assert "rules[5]" in answer.reason
    (denied,) = [step for step in answer.trace if not step.allowed]
    assert (denied.identity, denied.resource) == (identity_of("proxy2").uri, "/ca/issuing")


def test_a_proxy_that_asks_for_itself_is_told_what_it_lacks() -> None:
    assert "/peer/origin" in explain_access(ask("proxy1"), ROLES).reason


def test_the_catalogue_needs_a_role_of_everybody() -> None:
    assert explain_access(ask("tenant1", "ra.catalogue", "proxy1"), ROLES).allowed
    answer = explain_access(ask("stranger", "ra.catalogue", "proxy1"), ROLES)
    assert (answer.allowed, answer.reason.endswith("has no role")) == (False, True)


def test_what_cannot_be_asked_is_refused_with_a_remedy() -> None:
    with pytest.raises(NotFound, match=r"ra\.enroll"):
        explain_access(ask("ra1", "node.apply"), ROLES)
    with pytest.raises(ConfigError, match="authority"):
        explain_access(
            AccessQuestion(identity=identity_of("ra1").uri, operation="ra.search"), ROLES
        )
    with pytest.raises(ConfigError, match="RA's identity"):
        explain_access(
            AccessQuestion(
                identity="alice",
                operation="ra.search",
                authority="issuing",
                via=(identity_of("ra1").uri,),
            ),
            ROLES,
        )
