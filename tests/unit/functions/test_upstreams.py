"""Whom an RA may ask follows from roles alone, and from the roles in force at that moment."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from node_agent.clock import SystemClock
from node_agent.errors import Unavailable
from node_agent.functions.upstreams import Upstreams
from node_agent.identity import NodeIdentity
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.directory import Directory
from node_agent.peers.operations import (
    AuthorityDescription,
    CatalogueAnswer,
    CatalogueRequest,
)
from node_agent.policy import RoleSet, parse_role
from tests.support.event_loop import run

CA1 = NodeIdentity("pki.example.org", "ca1")
CA2 = NodeIdentity("pki.example.org", "ca2")


class NobodyToAsk:
    """A caller without links: choosing peers must not call any."""

    async def call(self, *arguments: Any, **options: Any) -> NoReturn:
        raise AssertionError("nobody is linked")


class Roles:
    """The roles in force, which a test replaces."""

    def __init__(self, *specs: PeerRoleSpec) -> None:
        self.replace(*specs)

    def replace(self, *specs: PeerRoleSpec) -> None:
        self.current = RoleSet([parse_role(spec) for spec in specs])


def role(node: NodeIdentity, *resources: str, deny: str | None = None) -> PeerRoleSpec:
    rules = [AccessRule(resource=resource) for resource in resources]
    if deny is not None:
        rules.append(AccessRule(resource=deny, effect="deny"))
    return PeerRoleSpec(name=node.name, members=(node.uri,), rules=tuple(rules))


class Broken:
    """A caller that fails in a way of its own."""

    def __init__(self) -> None:
        self.asked = 0

    async def call(self, *arguments: Any, **options: Any) -> NoReturn:
        self.asked += 1
        raise KeyError("nobody thought of it")


def upstreams(roles: Roles, caller: Any = None) -> Upstreams:
    clock = SystemClock()
    return Upstreams(
        roles=lambda: roles.current,
        directory=Directory(clock=clock),
        caller=caller or NobodyToAsk(),
        clock=clock,
    )


def test_a_peer_serves_what_its_role_grants() -> None:
    found = upstreams(Roles(role(CA1, "/peer/upstream", "/ca/one"), role(CA2, "/ca/one")))
    assert found.serving("one") == [CA1]


class Paged:
    """A caller whose peer answers a catalogue of three pages, or of pages without end."""

    def __init__(self, pages: dict[str | None, str | None]) -> None:
        self.pages = pages
        self.asked: list[str | None] = []

    async def call(self, operation: Any, request: CatalogueRequest, **options: Any) -> Any:
        self.asked.append(request.after)
        name = request.after or "a"
        offer = AuthorityDescription(name=f"{name}1", chain=(), profiles=())
        return CatalogueAnswer(authorities=(offer,), after=self.pages[request.after])


def test_a_catalogue_is_taken_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Paged({None: "b", "b": "c", "c": None})
    found = upstreams(Roles(role(CA1, "/peer/upstream", "/ca/**")), caller)
    monkeypatch.setattr(found, "_reachable", lambda: [CA1])
    offers = run(found.catalogue())
    assert [offer.name for offer in offers] == ["a1", "b1", "c1"]
    assert caller.asked == [None, "b", "c"]


@pytest.mark.parametrize("again", ["b", "a", ""])
def test_a_catalogue_that_goes_round_is_given_up(
    monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    caller = Paged({None: "b", "b": again, "a": "b", "": "b"})
    found = upstreams(Roles(role(CA1, "/peer/upstream", "/ca/**")), caller)
    monkeypatch.setattr(found, "_reachable", lambda: [CA1])
    run(found.refresh())
    assert len(caller.asked) == 2
    assert run(found.catalogue()) == ()


def test_a_catalogue_that_fails_unexpectedly_keeps_no_other_from_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caller = Broken()
    roles = Roles(role(CA1, "/peer/upstream", "/ca/one"), role(CA2, "/peer/upstream", "/ca/one"))
    found = upstreams(roles, caller)
    monkeypatch.setattr(found, "_reachable", lambda: [CA1, CA2])
    run(found.refresh())
    assert caller.asked == 2
    assert found.serving("one") == [CA1, CA2]


def test_nobody_serves_what_is_denied() -> None:
    found = upstreams(Roles(role(CA1, "/peer/upstream", "/ca/**", deny="/ca/one")))
    assert found.serving("two") == [CA1]
    with pytest.raises(Unavailable, match="no role grants"):
        found.serving("one")


def test_a_role_change_counts_at_once() -> None:
    roles = Roles(role(CA1, "/peer/upstream", "/ca/**"))
    found = upstreams(roles)
    assert found.serving("one") == found.serving("one") == [CA1]
    roles.replace(role(CA2, "/peer/upstream", "/ca/**"))
    assert found.serving("one") == [CA2]
    roles.replace()
    with pytest.raises(Unavailable):
        found.serving("one")


def test_names_that_requesters_make_up_are_not_kept_for_ever() -> None:
    found = upstreams(Roles(role(CA1, "/peer/upstream", "/ca/**")))
    for number in range(3000):
        assert found.serving(f"ca{number}") == [CA1]
    assert len(found._named) <= 1024


PROXY = NodeIdentity("pki.example.org", "proxy1")
OUTER = NodeIdentity("pki.example.org", "proxy2")


def test_a_request_that_nobody_linked_serves_goes_to_a_relay_nearer_to_the_ca() -> None:
    found = upstreams(
        Roles(
            role(CA1, "/peer/upstream", "/ca/one"),
            role(PROXY, "/peer/upstream", "/peer/relay"),
            role(OUTER, "/peer/relay", "/ra/*", "/ca/one"),
        )
    )
    assert found.route("ca/one") == [CA1, PROXY]
    assert found.route(CA1.uri) == [CA1, PROXY]
    assert found.route("ca/two") == [PROXY]


def test_a_proxy_without_a_way_says_so() -> None:
    found = upstreams(Roles(role(OUTER, "/peer/relay", "/ra/*"), role(CA2, "/ca/one")))
    assert found.route(CA2.uri) == []
    with pytest.raises(Unavailable):
        found.route("ca/one")
