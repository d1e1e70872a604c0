"""What may be written in a role, and what is refused by name."""

from __future__ import annotations

import pytest

from node_agent.errors import ConfigError
from node_agent.objects import AccessRule, PeerRoleSpec, RequesterSpec
from node_agent.policy import (
    Member,
    MemberKind,
    parse_member,
    parse_requester,
    parse_role,
    parse_rule,
)

_HASH = "ab" * 32


@pytest.mark.parametrize(
    "resource",
    [
        "/peer/incoming",
        "/peer/publish/*",
        "/peer/**",
        "/ra/*",
        "/ca/issuing",
        "/ca/issuing_2-a",
        "/ca/*",
        "/**",
        "/*/**",
        "/signer/*/renew",
        "/signer/issuing/**",
        "/protocol/cmp",
        "/ca/acme-*",
        "/ca/*-acme",
        "/ca/acme-*-2027",
        "/ca/" + "a" * 62 + "*",
        "/profile/*-signing",
        "/signer/acme-*/renew",
        "/signer/acme*/**",
    ],
)
def test_a_pattern_over_known_resources_is_accepted(resource: str) -> None:
    rule = parse_rule(AccessRule(resource=resource))
    assert rule.resource == resource
    assert rule.allows


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/",
        "//",
        "ra/enroll",
        "/ra/",
        "/ra//enroll",
        "/ra/enroll/",
        "/ra/en*",
        "/**/enroll",
        "/ra/***",
        "/ra/Enroll",
        "/ra/../ca/x",
        "/ca/a b",
        "/ca/a\n",
        "/ca/" + "a" * 64,
        "/" + "a" * 300,
        "/ra/enrol",  # no such verb: a typing error
        "/peers/incoming",
        "/ca",
        "/ca/x/y",
        "/signer/x",
        "/peer/publish",
        "/ca/a*b*c",
        "/ca/**a",
        "/ca/-*",
        "/ca/*_",
        "/ca/A*",
        "/ca/" + "a" * 63 + "*",  # no name is that long
        "/ca/acme-*/**",
        "/protocol/re*",  # no name of an object
        "/signer/acme/re*",
        "/c*/issuing",
        "/*/acme-*",
    ],
)
def test_a_pattern_that_is_malformed_or_matches_nothing_is_refused_by_rule(resource: str) -> None:
    spec = PeerRoleSpec(
        name="ra", rules=(AccessRule(resource="/ra/*"), AccessRule(resource=resource))
    )
    with pytest.raises(ConfigError, match=r"peer_roles/ra: rules\[1\]"):
        parse_role(spec)


def test_an_unknown_effect_is_refused() -> None:
    rule = AccessRule(resource="/ra/*", effect="permit")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="permit"):
        parse_rule(rule)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spiffe://test.example/node/ra1", (MemberKind.NODE, "spiffe://test.example/node/ra1")),
        (f"fingerprint:{_HASH}", (MemberKind.FINGERPRINT, _HASH)),
        (f"fingerprint:{_HASH.upper()}", (MemberKind.FINGERPRINT, _HASH)),
        ("spki:" + ":".join(["AB"] * 32), (MemberKind.SPKI, _HASH)),
        ("serial:0A:FF@CN=Root,O=Acme", (MemberKind.SERIAL, "aff@CN=Root,O=Acme")),
        ("serial:00ff@CN=Root,O=Ac\\,me", (MemberKind.SERIAL, "ff@CN=Root,O=Ac\\,me")),
    ],
)
def test_members_are_normalized(text: str, expected: tuple[MemberKind, str]) -> None:
    assert parse_member(text) == Member(*expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ra1",
        "spiffe://test.example/ra1",
        "spiffe://Test.example/node/ra1",
        "spiffe://test.example/node/ra1/",
        "fingerprint:abcd",
        f"fingerprint:{'g' * 64}",
        f"sha1:{_HASH}",
        "requester:alice",  # a requester isn't a peer
        "serial:12",
        "serial:@CN=Root",
        "serial:zz@CN=Root",
        "serial:12@",
        "serial:12@not a name",
        "serial:" + "f" * 41 + "@CN=Root",
    ],
)
def test_anything_else_is_no_member_and_is_refused_by_position(text: str) -> None:
    good = "spiffe://test.example/node/ra1"
    with pytest.raises(ConfigError, match=r"peer_roles/ra: members\[1\]"):
        parse_role(PeerRoleSpec(name="ra", members=(good, text)))


def test_a_requester_is_a_role_of_its_own() -> None:
    role = parse_requester(RequesterSpec(name="alice", rules=(AccessRule(resource="/ra/enroll"),)))
    assert role.members == {Member(MemberKind.REQUESTER, "alice")}
    assert [rule.where for rule in role.rules] == ["requesters/alice: rules[0]"]


def test_a_rule_reads_as_it_was_written() -> None:
    rule = parse_rule(AccessRule(resource="/ca/*", effect="deny"), where="peer_roles/ra: rules[3]")
    assert str(rule) == "peer_roles/ra: rules[3] (deny /ca/*)"


def test_members_read_as_they_are_written() -> None:
    for text in ("spiffe://test.example/node/ra1", f"spki:{_HASH}"):
        assert str(parse_member(text)) == text
