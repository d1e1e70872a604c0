"""What must hold of every role set: monotone, default deny, and equal to its own definition."""

from __future__ import annotations

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.policy import AccessRequest, RoleSet, decide, grants, parse_roles, parse_rule

_NODES = ("ra1", "ra2", "proxy1")
_PEERS = tuple(
    PeerIdentity(NodeIdentity("t.example", name), "CN=R", index, str(index) * 64, "f" * 64)
    for index, name in enumerate(_NODES)
)
_PATTERNS = (
    "/**",
    "/*/**",
    "/ra/*",
    "/ra/**",
    "/ra/enroll",
    "/ca/*",
    "/ca/a",
    "/ca/a*",
    "/ca/*b",
    "/ca/a*b",
    "/signer/a*/renew",
    "/profile/*-b",
    "/*/a",
    "/peer/**",
    "/peer/publish/*",
    "/peer/*/crl",
    "/*/*/renew",
    "/signer/a/**",
)
_RESOURCES = (
    "/ra/enroll",
    "/ra/revoke",
    "/ca/a",
    "/ca/b",
    "/ca/ab",
    "/ca/a-b",
    "/profile/a-b",
    "/peer/publish/crl",
    "/peer/relay",
    "/signer/a/renew",
    "/ca/a/b",
    "/nothing",
)
rules = st.builds(
    AccessRule, resource=st.sampled_from(_PATTERNS), effect=st.sampled_from(["allow", "deny"])
)
members = st.sampled_from(
    [f"spiffe://t.example/node/{name}" for name in _NODES] + [f"spki:{'f' * 64}"]
)
roles = st.builds(
    PeerRoleSpec,
    name=st.just("role"),
    members=st.lists(members, max_size=3).map(tuple),
    rules=st.lists(rules, max_size=5).map(tuple),
)
role_sets = st.lists(roles, max_size=4)
ROLE = PeerRoleSpec(name="role", members=(f"spiffe://t.example/node/{_NODES[0]}",))
resources = st.lists(st.sampled_from(_RESOURCES), max_size=4).map(tuple)
chains = st.lists(st.sampled_from(_PEERS), max_size=3).map(tuple)


def allowed(
    specs: list[PeerRoleSpec], needed: tuple[str, ...], chain: tuple[PeerIdentity, ...]
) -> bool:
    return decide(AccessRequest("op", needed, chain), parse_roles(specs)).allowed


def with_rule(spec: PeerRoleSpec, effect: str, resource: str) -> PeerRoleSpec:
    extra = AccessRule(resource=resource, effect=effect)  # type: ignore[arg-type]
    return PeerRoleSpec(name=spec.name, members=spec.members, rules=(*spec.rules, extra))


@given(role_sets, resources, chains, st.sampled_from(_PATTERNS), st.data())
def test_one_more_deny_never_allows_more(
    specs: list[PeerRoleSpec],
    needed: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    pattern: str,
    data: st.DataObject,
) -> None:
    if not specs:
        return
    index = data.draw(st.integers(0, len(specs) - 1))
    changed = [*specs]
    changed[index] = with_rule(specs[index], "deny", pattern)
    assert allowed(specs, needed, chain) or not allowed(changed, needed, chain)


@given(role_sets, resources, chains, st.sampled_from(_PATTERNS), st.data())
def test_one_more_allow_never_denies(
    specs: list[PeerRoleSpec],
    needed: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    pattern: str,
    data: st.DataObject,
) -> None:
    if not specs:
        return
    index = data.draw(st.integers(0, len(specs) - 1))
    changed = [*specs]
    changed[index] = with_rule(specs[index], "allow", pattern)
    assert allowed(changed, needed, chain) or not allowed(specs, needed, chain)


@given(role_sets, resources, chains, st.sampled_from(_PEERS), st.integers(0, 3))
def test_one_more_in_the_chain_never_allows_more(
    specs: list[PeerRoleSpec],
    needed: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    extra: PeerIdentity,
    at: int,
) -> None:
    longer = (*chain[:at], extra, *chain[at:])
    if chain:
        assert allowed(specs, needed, chain) or not allowed(specs, needed, longer)


@given(role_sets, resources, chains, st.sampled_from(_RESOURCES))
def test_one_more_needed_resource_never_allows_more(
    specs: list[PeerRoleSpec],
    needed: tuple[str, ...],
    chain: tuple[PeerIdentity, ...],
    extra: str,
) -> None:
    if needed:
        assert allowed(specs, needed, chain) or not allowed(specs, (*needed, extra), chain)


@given(resources, chains)
def test_without_rules_nothing_is_allowed(
    needed: tuple[str, ...], chain: tuple[PeerIdentity, ...]
) -> None:
    members_only = PeerRoleSpec(name="r", members=(f"spki:{'f' * 64}",))
    assert not allowed([], needed, chain)
    assert not allowed([members_only], needed, chain)


@given(role_sets, st.sampled_from(_RESOURCES), st.sampled_from(_PEERS))
def test_the_compiled_form_equals_the_definition(
    specs: list[PeerRoleSpec], resource: str, subject: PeerIdentity
) -> None:
    role_set: RoleSet = parse_roles(specs)
    every = [rule for role in role_set.roles_of(subject) for rule in role.rules]
    assert role_set.permits(subject, resource) == grants(every, resource)
    assert role_set.permits(subject, resource) == grants(every, resource)  # remembered, the same


names = st.from_regex(r"[ab](?:[ab_-]{0,6}[ab])?", fullmatch=True)
parts = st.builds(
    lambda head, tail: f"{head}*{tail}",
    st.from_regex(r"(?:[ab][ab_-]{0,3})?", fullmatch=True),
    st.from_regex(r"(?:[ab_-]{0,3}[ab])?", fullmatch=True),
)


@given(st.sampled_from(["ca", "profile"]), parts, names)
def test_a_part_of_a_name_matches_as_in_a_shell_and_nothing_else(
    kind: str, part: str, name: str
) -> None:
    rule = parse_rule(AccessRule(resource=f"/{kind}/{part}"))
    assert grants([rule], f"/{kind}/{name}") == fnmatch.fnmatchcase(name, part)
    for other in ("/ra/enroll", f"/signer/{name}/renew", f"/{kind}/{name}/{name}", f"/{kind}"):
        assert not grants([rule], other)


@given(parts, parts)
def test_what_a_part_of_a_name_grants_another_takes_away_again(part: str, denied: str) -> None:
    specs = [with_rule(ROLE, "allow", f"/ca/{part}")]
    subject = _PEERS[:1]
    for name in ("a", "b", "ab", "a-b", "aa", "b_a-b"):
        before = allowed(specs, (f"/ca/{name}",), subject)
        after = allowed([with_rule(specs[0], "deny", f"/ca/{denied}")], (f"/ca/{name}",), subject)
        assert after == (before and not fnmatch.fnmatchcase(name, denied))


@given(role_sets, resources, chains)
def test_a_decision_says_why(
    specs: list[PeerRoleSpec], needed: tuple[str, ...], chain: tuple[PeerIdentity, ...]
) -> None:
    decision = decide(AccessRequest("op", needed, chain), parse_roles(specs))
    assert decision.reason
    assert decision.allowed == (
        bool(decision.trace) and all(verdict.allowed for verdict in decision.trace)
    )


@given(st.text(max_size=40) | st.text(alphabet="/*ra-caenroll.", max_size=20))
def test_a_pattern_is_parsed_or_refused_with_its_place(text: str) -> None:
    try:
        rule = parse_rule(AccessRule(resource=text), where="here")
    except ConfigError as error:
        place, parsed = error.where, text
    else:
        place, parsed = rule.where, rule.resource
    assert place == "here"
    assert parsed == text
