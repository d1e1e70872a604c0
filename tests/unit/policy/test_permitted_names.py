"""Which names a role lets its members ask for."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import PeerRoleSpec, RequesterSpec
from node_agent.policy import Requester, parse_role, parse_roles, refuse_names

RA = PeerIdentity(NodeIdentity("test.example", "ra1"), "CN=Root", 7, "a" * 64, "b" * 64)
PROXY = PeerIdentity(NodeIdentity("test.example", "proxy1"), "CN=Root", 8, "c" * 64, "d" * 64)


def role(name: str, *names: str, member: str = "spiffe://test.example/node/ra1") -> PeerRoleSpec:
    return PeerRoleSpec(name=name, members=(member,), names=names)


# permitted, asked for, whether it is granted
CASES: list[tuple[str, tuple[Any, str], bool]] = [
    ("dns:example.org", ("dns", "example.org"), True),
    ("dns:example.org", ("dns", "a.b.example.org"), True),
    ("dns:example.org", ("dns", "*.example.org"), True),
    ("dns:Example.ORG", ("dns", "WWW.example.org"), True),
    ("dns:example.org", ("dns", "badexample.org"), False),
    ("dns:example.org", ("dns", "example.org.evil.test"), False),
    ("dns:www.example.org", ("dns", "*.example.org"), False),
    ("dns:example.org", ("dns", "*.org"), False),
    ("dns:example.org", ("dns", "evil.test\x00.example.org"), False),
    ("dns:example.org", ("uri", "https://example.org/"), False),
    ("ip:192.0.2.0/24", ("ip", "192.0.2.77"), True),
    ("ip:192.0.2.0/24", ("ip", "192.0.3.1"), False),
    ("ip:192.0.2.9", ("ip", "192.0.2.9"), True),
    ("ip:2001:db8::/32", ("ip", "2001:db8::1"), True),
    ("ip:0.0.0.0/0", ("ip", "2001:db8::1"), False),
    ("email:example.org", ("email", "user@example.org"), True),
    ("email:example.org", ("email", "user@mail.example.org"), False),
    ("email:.example.org", ("email", "user@mail.example.org"), True),
    ("email:.example.org", ("email", "user@example.org"), False),
    ("email:user@example.org", ("email", "user@example.org"), True),
    ("email:user@example.org", ("email", "root@example.org"), False),
    ("email:example.org", ("email", "example.org"), False),
    ("uri:example.org", ("uri", "https://example.org:8443/x"), True),
    ("uri:example.org", ("uri", "https://example.org.evil.test/"), False),
    ("uri:example.org", ("uri", "https://example.org@evil.test/"), False),
    ("uri:example.org", ("uri", "urn:example:org"), False),
    ("uri:.example.org", ("uri", "https://a.example.org/"), True),
]


@pytest.mark.parametrize(("permitted", "asked", "is_granted"), CASES)
def test_a_name_is_granted_if_it_is_permitted(
    permitted: str, asked: tuple[Any, str], is_granted: bool
) -> None:
    roles = parse_roles([role("ra", permitted)])
    reason = refuse_names((RA,), (asked,), (), roles)
    assert (reason is None) is is_granted, reason
    if reason is not None:
        assert "peer_roles/ra: names[0]" in reason
        assert RA.node.uri in reason


def test_a_role_without_names_restricts_nothing_and_lifts_nothing() -> None:
    asked = (("dns", "other.test"),)
    assert refuse_names((RA,), asked, (), parse_roles([role("ra")])) is None  # type: ignore[arg-type]
    roles = parse_roles([role("ra"), role("bound", "dns:example.org")])
    assert refuse_names((RA,), asked, (), roles) is not None  # type: ignore[arg-type]


def test_what_several_roles_permit_is_permitted() -> None:
    roles = parse_roles([role("one", "dns:example.org"), role("two", "dns:example.net")])
    for host in ("a.example.org", "a.example.net"):
        assert refuse_names((RA,), (("dns", host),), (), roles) is None


def test_everyone_in_the_chain_must_be_permitted() -> None:
    proxy = role("proxy", "dns:example.net", member=PROXY.node.uri)
    roles = parse_roles([role("ra", "dns:example.org"), proxy])
    asked = (("dns", "a.example.org"),)
    assert refuse_names((RA,), asked, (), roles) is None  # type: ignore[arg-type]
    assert "peer_roles/proxy" in (refuse_names((RA, PROXY), asked, (), roles) or "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("common_name", "is_granted"),
    [("a.example.org", True), ("b.example.org", True), ("evil.test", False), ("Jane Doe", False)],
)
def test_a_common_name_is_one_of_the_names_or_permitted_itself(
    common_name: str, is_granted: bool
) -> None:
    roles = parse_roles([role("ra", "dns:example.org")])
    reason = refuse_names((RA,), (("dns", "a.example.org"),), (common_name,), roles)
    assert (reason is None) is is_granted


def test_a_requester_is_bound_by_its_own_names() -> None:
    roles = parse_roles([], [RequesterSpec(name="web", names=("dns:www.example.org",))])
    web = Requester("web")
    assert refuse_names((web,), (("dns", "www.example.org"),), (), roles) is None
    assert "requesters/web" in (refuse_names((web,), (("dns", "example.org"),), (), roles) or "")


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "dns:", "dns:*.example.org", "dns:.example.org", "dns:a b"),
        *("dns:user@example.org", "ip:", "ip:192.0.2.1/24", "ip:host", "email:@example.org"),
        *("email:", "uri:https://example.org", "uri:user@example.org", "x:example.org"),
    ],
)
def test_what_permits_nothing_is_refused_when_it_is_written(text: str) -> None:
    with pytest.raises(ConfigError, match=r"peer_roles/ra: names\[0\]"):
        parse_role(role("ra", text))
