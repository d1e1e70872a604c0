"""Role templates are plain rules, and grant what the table in docs/reference/policy.md says."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import ConfigError
from node_agent.objects import AccessRule, PeerRoleSpec, RoleParameters
from node_agent.policy import RESOURCES, expand_role, grants, parse_role

CA_AND_PROFILE: dict[str, Any] = {"authorities": ["issuing"], "profiles": ["server"]}
TEMPLATES = ("publisher", "registration_authority", "validation_authority", "proxy", "tenant")
REGISTERS = {
    *("/ra/enroll", "/ra/revoke", "/ra/status", "/ra/search"),
    *("/ca/issuing", "/profile/server", "/protocol/rest"),
}
GRANTED = {
    "registration_authority": {"/peer/incoming", *REGISTERS},
    "tenant": REGISTERS,
    "proxy": {"/peer/incoming", "/peer/relay", *REGISTERS},
    "validation_authority": {"/peer/incoming", "/ca/issuing", "/signer/issuing/renew"},
    "publisher": {
        *("/peer/incoming", "/peer/upstream", "/ca/issuing"),
        *(f"/peer/publish/{what}" for what in ("certificate", "status", "crl", "read")),
    },
}
EVERYTHING = {
    path.replace("<name>", name) for path in RESOURCES for name in ("issuing", "server", "other")
}


def role(template: str | None, *rules: AccessRule, **parameters: Any) -> PeerRoleSpec:
    written: dict[str, Any] = {"name": "peer", "template": template}
    if parameters:
        written["parameters"] = parameters
    return msgspec.structs.replace(msgspec.convert(written, PeerRoleSpec), rules=rules)


def granted(spec: PeerRoleSpec) -> set[str]:
    rules = parse_role(expand_role(spec)).rules
    return {resource for resource in EVERYTHING if grants(rules, resource)}


def only_used(template: str) -> dict[str, Any]:
    takes_no_profile = template in ("publisher", "validation_authority")
    return {"authorities": ["issuing"]} if takes_no_profile else CA_AND_PROFILE


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_grants_what_its_kind_of_peer_needs_and_no_more(template: str) -> None:
    spec = role(template, **only_used(template))
    assert granted(spec) == GRANTED[template]
    expanded = expand_role(spec)
    assert (expanded.template, expanded.parameters) == (None, None)
    assert expand_role(expanded) == expanded


def test_every_template_is_tried() -> None:
    choices = typing.get_type_hints(PeerRoleSpec)["template"]
    known = next(one for one in typing.get_args(choices) if one is not type(None))
    assert sorted(typing.get_args(known)) == sorted(TEMPLATES)


def test_own_rules_come_first_and_keep_their_numbers() -> None:
    deny = AccessRule(resource="/profile/server", effect="deny")
    more = AccessRule(resource="/ra/search")
    spec = role("tenant", deny, more, authorities=["issuing"], profiles=["*"])
    expanded = expand_role(spec)
    assert expanded.rules[:2] == (deny, more)
    assert [rule.resource for rule in expanded.rules].count("/ra/search") == 1
    assert "/profile/server" not in granted(spec)
    assert "/profile/other" in granted(spec)


def test_parameters_choose_protocols_operations_and_content() -> None:
    spec = role(
        "tenant",
        **{**CA_AND_PROFILE, "protocols": ["est", "cmp"], "operations": ["search", "approve"]},
    )
    assert granted(spec) == {
        *("/ra/search", "/ra/approve", "/ca/issuing", "/profile/server"),
        *("/protocol/est", "/protocol/cmp"),
    }
    crls = granted(role("publisher", authorities=["issuing"], publishes=["crl"]))
    assert {path for path in crls if path.startswith("/peer/publish")} == {"/peer/publish/crl"}


def test_what_only_reads_needs_no_profile() -> None:
    spec = role("tenant", authorities=["issuing"], operations=["search", "status", "revoke"])
    assert not any(path.startswith("/profile") for path in granted(spec))


def test_a_proxy_may_stand_there_before_its_tenants() -> None:
    assert granted(role("proxy")) == {"/peer/incoming", "/peer/relay"}


def test_names_may_be_patterns() -> None:
    spec = role("validation_authority", authorities=["iss*", "*ing"])
    assert granted(spec) == GRANTED["validation_authority"]


@pytest.mark.parametrize(
    ("template", "parameters", "place"),
    [
        (None, CA_AND_PROFILE, "parameters"),
        ("tenant", {"profiles": ["server"]}, "parameters.authorities"),
        ("tenant", {"authorities": ["issuing"]}, "parameters.profiles"),
        ("publisher", {}, "parameters.authorities"),
        ("publisher", CA_AND_PROFILE, "parameters.profiles"),
        ("validation_authority", {**CA_AND_PROFILE}, "parameters.profiles"),
        ("proxy", {"publishes": ["crl"]}, "parameters.publishes"),
        ("tenant", {**CA_AND_PROFILE, "authorities": ["a", "B"]}, "parameters.authorities[1]"),
        ("tenant", {**CA_AND_PROFILE, "profiles": ["a/b"]}, "parameters.profiles[0]"),
        ("validation_authority", {"authorities": ["**"]}, "parameters.authorities[0]"),
    ],
    ids=str,
)
def test_parameters_that_mean_nothing_are_refused_by_name(
    template: str | None, parameters: dict[str, Any], place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        expand_role(role(template, **parameters))
    assert caught.value.where == f"peer_roles.peer.{place}"
    assert caught.value.remedy


@given(
    st.sampled_from(TEMPLATES),
    st.lists(st.sampled_from(["issuing", "*", "o*", "server"]), min_size=1, unique=True),
    st.lists(
        st.builds(
            AccessRule,
            resource=st.sampled_from(["/ra/*", "/ca/*", "/profile/server", "/**", "/peer/**"]),
            effect=st.sampled_from(["allow", "deny"]),
        ),
        max_size=3,
    ),
)
def test_a_template_never_grants_what_an_own_rule_denies(
    template: str, names: list[str], own: list[AccessRule]
) -> None:
    parameters = dict.fromkeys(only_used(template), names)
    spec = role(template, *own, **parameters)
    alone = parse_role(msgspec.structs.replace(spec, template=None, parameters=None)).rules
    without = granted(role(template, **parameters))
    denied = {
        path
        for path in EVERYTHING
        if not grants((*parse_role(EVERYTHING_GRANTED).rules, *alone), path)
    }
    with_own = {path for path in EVERYTHING if grants(alone, path)}
    assert granted(spec) == (without | with_own) - denied


EVERYTHING_GRANTED = PeerRoleSpec(name="all", rules=(AccessRule(resource="/**"),))


def test_defaults_are_those_of_an_ra_and_of_a_publisher_that_is_believed_no_more_than_needed() -> (
    None
):
    unset = RoleParameters()
    assert "approve" not in unset.operations
    assert "take_back" not in unset.publishes
