"""Default deny; deny wins; all resources, for everyone in the chain."""

from __future__ import annotations

import importlib
import time

import pytest

from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec, RequesterSpec
from node_agent.peers.operations import (
    OPERATIONS,
    ContentRequest,
    EnrollRequest,
    PublishedEntry,
    PublishRequest,
)
from node_agent.policy import (
    AccessRequest,
    Decision,
    Requester,
    RoleSet,
    Subject,
    decide,
    describe_chain,
    is_resource,
    parse_roles,
)

ENROLL = ("/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest")


def peer(name: str, digit: str = "a") -> PeerIdentity:
    """Return an identity whose pins all consist of ``digit``."""
    return PeerIdentity(
        NodeIdentity("test.example", name), "CN=Root,O=Acme", 0xAFF, digit * 64, digit * 64
    )


def role(name: str, *rules: str, members: tuple[str, ...] = ()) -> PeerRoleSpec:
    """Return a role; a rule that starts with ``!`` denies."""
    parsed = tuple(
        AccessRule(resource=rule.lstrip("!"), effect="deny" if rule[0] == "!" else "allow")
        for rule in rules
    )
    return PeerRoleSpec(
        name=name, members=members or (f"spiffe://test.example/node/{name}",), rules=parsed
    )


def ask(roles: RoleSet, *chain: Subject, resources: tuple[str, ...] = ENROLL) -> Decision:
    return decide(AccessRequest("ra.enroll", resources, chain), roles)


def test_nobody_is_granted_anything_by_default() -> None:
    decision = ask(parse_roles(()), peer("ra1"))
    assert not decision.allowed
    assert "has no role" in decision.reason


def test_all_resources_are_needed() -> None:
    full = ["/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest"]
    assert ask(parse_roles([role("ra1", *full)]), peer("ra1")).allowed
    for missing in full:
        rest = [path for path in full if path != missing]
        decision = ask(parse_roles([role("ra1", *rest)]), peer("ra1"))
        assert not decision.allowed
        assert missing in decision.reason


def test_deny_wins_within_and_across_roles() -> None:
    same = parse_roles([role("ra1", "/**", "!/ca/issuing")])
    other = parse_roles([role("ra1", "/**"), role("stop", "!/ca/*", members=(f"spki:{'a' * 64}",))])
    for roles in (same, other):
        decision = ask(roles, peer("ra1"))
        assert not decision.allowed
        assert "deny /ca/" in decision.rule


def test_everyone_in_the_chain_needs_the_grant() -> None:
    roles = parse_roles([role("ra1", "/**"), role("proxy1", "/ra/*", "/protocol/*", "/profile/*")])
    assert ask(roles, peer("ra1")).allowed
    refused = ask(roles, peer("ra1"), peer("proxy1"))
    assert not refused.allowed
    assert refused.reason == "spiffe://test.example/node/proxy1 is not granted /ca/issuing"


def test_a_requester_stands_in_the_chain_like_a_peer() -> None:
    alice = RequesterSpec(name="alice", rules=(AccessRule(resource="/ra/*"),))
    roles = parse_roles([role("ra1", "/ra/*")], [alice])
    enroll = ("/ra/enroll",)
    assert ask(roles, Requester("alice"), peer("ra1"), resources=enroll).allowed
    assert not ask(roles, Requester("bob"), peer("ra1"), resources=enroll).allowed


def test_a_requester_and_a_node_of_one_name_are_different_subjects() -> None:
    roles = parse_roles([role("alice", "/ra/*")])
    assert not ask(roles, Requester("alice"), resources=("/ra/enroll",)).allowed


@pytest.mark.parametrize(
    "member",
    [
        "spiffe://test.example/node/ra1",
        f"fingerprint:{'a' * 64}",
        f"spki:{'a' * 64}",
        "serial:0aff@CN=Root,O=Acme",
    ],
)
def test_members_match_by_identity_or_by_exact_pin(member: str) -> None:
    roles = parse_roles([role("r", "/ra/*", members=(member,))])
    assert ask(roles, peer("ra1"), resources=("/ra/enroll",)).allowed
    stranger = PeerIdentity(
        NodeIdentity("test.example", "ra2"), "CN=Root,O=Other", 0xAFF, "b" * 64, "b" * 64
    )
    assert not ask(roles, stranger, resources=("/ra/enroll",)).allowed


def test_a_member_by_several_marks_has_the_role_once() -> None:
    members = ("spiffe://test.example/node/ra1", f"spki:{'a' * 64}")
    roles = parse_roles([role("r", "/ra/*", members=members)])
    assert [found.name for found in roles.roles_of(peer("ra1"))] == ["r"]


def test_a_star_stands_for_one_segment_and_two_for_all_below() -> None:
    roles = parse_roles(
        [role("one", "/peer/*"), role("all", "/peer/**"), role("mid", "/*/x/renew")]
    )
    assert roles.permits(peer("one"), "/peer/relay")
    assert not roles.permits(peer("one"), "/peer/publish/crl")
    assert roles.permits(peer("all"), "/peer/publish/crl")
    assert roles.permits(peer("mid"), "/signer/x/renew")
    assert not roles.permits(peer("mid"), "/signer/y/renew")


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/",
        "/ca/",
        "/ca/*",
        "/ca/**",
        "/ca/a/b",
        "/ca/../ra",
        "/ca/A",
        "/ca/a\x00",
        "/new/thing",
        "/peer/publish/unknown",
        "/protocol/gopher",
        "/ca/" + "a" * 64,
    ],
)
def test_what_is_no_resource_is_denied_even_to_whom_everything_is_granted(resource: str) -> None:
    roles = parse_roles([role("ra1", "/**", "/ca/*", "/ca/**")])
    assert not ask(roles, peer("ra1"), resources=(resource,)).allowed


def test_an_empty_chain_and_an_empty_need_are_denied() -> None:
    roles = parse_roles([role("ra1", "/**")])
    assert not ask(roles).allowed
    assert not ask(roles, peer("ra1"), resources=()).allowed


def test_every_resource_of_every_operation_is_known() -> None:
    entries = tuple(
        PublishedEntry(position=1, kind=kind, authority_id="", serial=None, at=0, payload=b"")
        for kind in ("authority", "certificate", "status", "crl")
    )
    special = {
        "publish.batch": PublishRequest(
            source="", after=0, position=1, authorities=("x",), entries=entries
        ),
        "publish.content": ContentRequest(
            authority="x",
            authority_id="",
            number=1,
            is_delta=False,
            sha256=b"",
            octets=1,
            offset=0,
        ),
        "ra.enroll": EnrollRequest(authority="x", profile="y", csr=b""),
    }
    defaults = {
        "authority": "x",
        "profile": "y",
        "approval": bytes(32),
        "serial": 1,
        "csr": b"",
        "source": "s",
        "authorities": ("x",),
        "authority_id": "",
        "content": ("status",),
        "prefixes": ("",),
        "buckets": (1,),
        "entries": (),
        "surplus": (),
    }
    for method, operation in OPERATIONS.items():
        fields = operation.request_type.__struct_fields__
        request = special.get(method) or operation.request_type(
            **{key: value for key, value in defaults.items() if key in fields}
        )
        needed = operation.resources(request)
        assert needed or method == "ra.catalogue"  # needs the link's own grant and no more
        assert all(is_resource(path) for path in needed), needed


def test_what_is_remembered_of_hostile_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package has a function of the module's name.
    module = importlib.import_module("node_agent.policy.decide")
    monkeypatch.setattr(module, "_MAX_VERDICTS", 2000)
    monkeypatch.setattr(module, "_MAX_SUBJECTS", 300)
    roles = parse_roles([role("ra1", "/ca/*"), role("ra2", "/ca/*")])
    for number in range(5000):
        assert roles.permits(peer("ra1"), f"/ca/x{number}")
        assert roles.permits(peer("ra2"), f"/ca/x{number}")
        assert not roles.permits(peer(f"n{number % 500}"), "/ca/x")
        assert len(roles._grants) <= 300
        assert sum(len(known.verdicts) for known in roles._grants.values()) <= 2000
    assert roles.permits(peer("ra1"), "/ca/x1")


def test_ten_thousand_cas_of_one_publisher_are_remembered() -> None:
    roles = parse_roles([role("ca1", "/ca/*")])
    names = [f"/ca/x{number}" for number in range(10_000)]
    first = [roles.verdict(peer("ca1"), name) for name in names]
    again = [roles.verdict(peer("ca1"), name) for name in names]
    assert all(known is before for known, before in zip(again, first, strict=True))


def test_the_trace_names_every_verdict_and_the_decision_the_one_that_denies() -> None:
    decision = ask(parse_roles([role("ra1", "/ra/*", "/protocol/*", "!/ca/**")]), peer("ra1"))
    assert [verdict.resource for verdict in decision.trace] == list(ENROLL)
    denied, not_granted = [verdict for verdict in decision.trace if not verdict.allowed]
    assert (not_granted.resource, not_granted.rule) == ("/profile/server", "")
    assert (denied.resource, denied.rule) == (
        "/ca/issuing",
        "peer_roles/ra1: rules[2] (deny /ca/**)",
    )
    assert (decision.rule, decision.reason) == (denied.rule, denied.reason)


def test_the_most_exact_rule_that_grants_is_named() -> None:
    subject = peer("ra1")
    roles = parse_roles([role("ra1", "/ca/**", "/ca/*", "/ca/acme-*", "/ca/acme-1", "!/ca/*-x")])
    for name, number in (("acme-1", 3), ("acme-2", 2), ("beta", 1), ("acme-x", 4)):
        verdict = roles.verdict(subject, f"/ca/{name}")
        assert verdict.allowed == (name != "acme-x")
        assert f"rules[{number}]" in verdict.rule


def test_a_chain_reads_from_the_requester_outward() -> None:
    assert (
        describe_chain((peer("ra1"), peer("proxy1")), requester="alice")
        == "alice via ra1 via proxy1"
    )
    assert describe_chain((Requester("bob"),)) == "bob"


def test_a_node_of_another_trust_domain_stands_in_a_chain_by_its_whole_identity() -> None:
    chain = (peer("ra1"), peer("proxy1"))
    home = chain[0].node.trust_domain
    assert describe_chain(chain, home=home) == "ra1 via proxy1"
    assert describe_chain(chain, home="pki.elsewhere") == (
        f"spiffe://{home}/node/ra1 via spiffe://{home}/node/proxy1"
    )


def test_a_decision_costs_microseconds_not_rules() -> None:
    """Not a benchmark: only that a thousand rules don't make a decision a thousand times dearer."""
    many = [f"/ca/c{number}" for number in range(1000)]
    roles = parse_roles([role("ra1", "/**", *many), role("proxy1", "/**", *many)])
    chain = (peer("ra1"), peer("proxy1"))
    request = AccessRequest("ra.enroll", (*ENROLL, "/peer/incoming"), chain)
    started = time.perf_counter()
    for _ in range(2000):
        assert decide(request, roles).allowed
    assert (time.perf_counter() - started) / 2000 < 0.001
