"""A decision is explained by the code that makes it, for every link of the chain."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node_agent.errors import ConfigError, NotFound
from node_agent.functions.explanation import explain_access
from node_agent.identity import PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec, RequesterSpec
from node_agent.peers.operations import OPERATIONS
from node_agent.policy import RoleSet, parse_roles
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


def test_the_verdict_that_decides_is_named_with_its_link_of_the_chain() -> None:
    answer = explain_access(ask("tenant1", "ra.enroll", "proxy2", "proxy1"), ROLES)
    assert answer.decided_by is not None
    assert (answer.decided_by.link, answer.decided_by.resource) == ("via 1", "/ca/issuing")
    assert answer.decided_by.rule == answer.rule
    assert answer.rule == "peer_roles/role-proxy2: rules[5] (deny /ca/issuing)"
    assert [step.link for step in answer.trace[-4:]] == ["via 2"] * 4
    assert explain_access(ask("ra1"), ROLES).decided_by is None
    stranger = explain_access(ask("stranger", "ra.catalogue", "proxy1"), ROLES).decided_by
    assert stranger is not None
    assert (stranger.link, stranger.resource) == ("origin", "")


NAMED = RoleSet(
    [
        *ROLES.roles,
        *parse_roles(
            [
                PeerRoleSpec(
                    name="names",
                    members=(identity_of("tenant1").uri,),
                    names=("dns:tenant.example.org", "email:tenant.example.org"),
                )
            ],
            [
                RequesterSpec(
                    name="alice",
                    token_sha256="ab" * 32,
                    rules=tuple(AccessRule(resource=resource) for resource in RA),
                    names=("dns:www.tenant.example.org",),
                )
            ],
        ).roles,
    ]
)


@pytest.mark.parametrize(
    ("names", "refused", "reason"),
    [
        (["dns:www.tenant.example.org", "cn:www.tenant.example.org"], "", ""),
        (["email:a@tenant.example.org", "cn:a@tenant.example.org"], "", ""),
        (["dns:www.tenant.example.org", "dns:www.example.org"], "dns:www.example.org", "names[0]"),
        (["ip:192.0.2.1"], "ip:192.0.2.1", "names[1]"),
        (["cn:somebody"], "the common name 'somebody'", "names[0]"),
    ],
    ids=str,
)
def test_names_are_judged_for_everybody_on_the_way(
    names: list[str], refused: str, reason: str
) -> None:
    question = replace(ask("tenant1", "ra.enroll", "proxy1"), names=tuple(names))
    answer = explain_access(question, NAMED)
    assert answer.allowed == (not refused)
    if refused:
        assert answer.decided_by is not None
        assert (answer.decided_by.link, answer.decided_by.resource) == ("origin", refused)
        assert reason in answer.rule
    asked = [step for step in answer.trace if step.link == "via 1"][-1]
    assert (asked.allowed, asked.rule) == (True, "")
    assert "every name of the profile" in asked.reason


def test_a_requesters_names_are_judged_at_its_ra_with_the_entry_that_permits() -> None:
    question = AccessQuestion(
        identity="alice",
        operation="ra.enroll",
        authority="issuing",
        profile="server",
        names=("dns:www.tenant.example.org",),
    )
    answer = explain_access(question, NAMED)
    assert answer.allowed
    assert (answer.trace[-1].link, answer.trace[-1].rule) == (
        "requester",
        "requesters/alice: names[0] (dns:www.tenant.example.org)",
    )
    other = explain_access(replace(question, names=("dns:tenant.example.org",)), NAMED)
    assert not other.allowed
    assert "requesters/alice: names[0]" in other.reason


def test_what_lacks_a_grant_is_decided_by_it_whatever_its_names() -> None:
    answer = explain_access(replace(ask("proxy1"), names=("dns:www.example.org",)), NAMED)
    assert answer.decided_by is not None
    assert answer.decided_by.resource == "/peer/origin"


@pytest.mark.parametrize(
    ("operation", "name"), [("ra.search", "dns:a"), ("ra.enroll", "a"), ("ra.enroll", "dns:")]
)
def test_what_is_no_name_to_ask_for_is_refused(operation: str, name: str) -> None:
    with pytest.raises(ConfigError, match="no name") as caught:
        explain_access(replace(ask("ra1", operation), names=(name,)), NAMED)
    assert caught.value.where == "names"


def test_a_role_that_pins_a_certificate_counts_for_who_is_linked_with_it() -> None:
    linked = identity_of("pinned")
    peer = PeerIdentity(linked, "CN=Management", 5, "a" * 64, "b" * 64)
    rules = tuple(AccessRule(resource=resource) for resource in ("/peer/incoming", *RA))
    for member in (f"fingerprint:{'a' * 64}", f"spki:{'b' * 64}", "serial:5@CN=Management"):
        roles = parse_roles([PeerRoleSpec(name="pinned", members=(member,), rules=rules)])
        assert explain_access(ask("pinned"), roles, lambda node: peer).allowed
        assert not explain_access(ask("pinned"), roles).allowed


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_explained(operation: str) -> None:
    everything = parse_roles(
        [
            PeerRoleSpec(
                name="all",
                members=(identity_of("ra1").uri,),
                rules=(AccessRule(resource="/**"),),
            )
        ]
    )
    answer = explain_access(ask("ra1", operation), everything)
    assert answer.allowed
    if operation != "ra.catalogue":
        assert "/ca/issuing" in answer.resources


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
