# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RAs behind proxies: who is granted what on which node, and which chains are refused."""

from __future__ import annotations

import itertools

import pytest

CHAIN = """\
plugin: peersys.pki.topology
trust_domain: pki.example.org
zones: {all: }
nodes:
  ca1: {zone: all, functions: [management_ca, certification_authority]}
  inner: {zone: all, address: 192.0.2.1, functions: [ra_proxy], listen: {peer: 7443}}
  outer: {zone: all, address: 192.0.2.2, functions: [ra_proxy], listen: {peer: 7443}}
  near: {zone: all, address: 192.0.2.3, functions: [registration_authority], listen: {rest: 8443}}
  far: {zone: all, address: 192.0.2.4, functions: [registration_authority], listen: {rest: 8443}}
profiles:
  server: {san: [{kind: dns}]}
  client: {}
authorities:
  root: {node: ca1, subject: CN=Root}
  one: {node: ca1, issuer: root, subject: CN=One, profiles: [server]}
  two: {node: ca1, issuer: root, subject: CN=Two, profiles: [client]}
links:
  - {from: ca1, to: inner}
  - {from: inner, to: outer}
  - {from: near, to: inner, authorities: [one]}
  - {from: far, to: outer, authorities: [two]}
"""
VERBS = {"/ra/enroll", "/ra/revoke", "/ra/status", "/ra/search", "/protocol/rest"}
ONE, TWO = {"/ca/one", "/profile/server"}, {"/ca/two", "/profile/client"}
INCOMING, UPSTREAM, RELAY = "/peer/incoming", "/peer/upstream", "/peer/relay"


@pytest.fixture
def granted(load):
    """Return what each peer is granted on a node of the chain."""
    inventory = load(CHAIN)

    def on(node, function):
        roles = inventory.get_host(node).vars[f"{function}_peer_roles"]
        assert all(role["members"] == [_identity(role["name"])] for role in roles)
        return {role["name"]: {rule["resource"] for rule in role["rules"]} for role in roles}

    return on


def _identity(name):
    return f"spiffe://pki.example.org/node/{name}"


def test_ca_grants_each_tenant_its_cas_and_no_link(granted):
    on_ca = granted("ca1", "certification_authority")
    assert on_ca["near"] == VERBS | ONE
    assert on_ca["far"] == VERBS | TWO


def test_ca_grants_proxies_what_their_tenants_have_together(granted):
    on_ca = granted("ca1", "certification_authority")
    assert on_ca["inner"] == {INCOMING, RELAY} | VERBS | ONE | TWO
    # Not linked with the CA, but known as one that only carries.
    assert on_ca["outer"] == {RELAY} | VERBS | TWO


def test_tenant_knows_its_proxy_and_its_ca(granted):
    assert granted("near", "registration_authority") == {
        "inner": {INCOMING, UPSTREAM, RELAY},
        "ca1": {UPSTREAM, "/ca/one"},
    }


def test_no_proxy_may_answer_for_a_ca(granted):
    for node, function in (("near", "registration_authority"), ("outer", "ra_proxy")):
        for name, resources in granted(node, function).items():
            upstream = UPSTREAM in resources
            assert name == "ca1" or not (upstream and resources & {"/ca/one", "/ca/two"})


def test_inner_proxy(granted):
    on_inner = granted("inner", "ra_proxy")
    assert on_inner["outer"] == {INCOMING, RELAY} | VERBS | TWO
    assert on_inner["near"] == {INCOMING} | VERBS | ONE
    assert on_inner["far"] == VERBS | TWO
    assert {INCOMING, UPSTREAM, "/ca/one", "/ca/two"} <= on_inner["ca1"]


def test_outer_proxy(granted):
    assert granted("outer", "ra_proxy") == {
        "inner": {INCOMING, UPSTREAM, RELAY},
        "far": {INCOMING} | VERBS | TWO,
        "ca1": {UPSTREAM, "/ca/two"},
    }


def test_each_dialling_node_has_its_connectors(load):
    inventory = load(CHAIN)
    dialled = {
        ("inner", "ra_proxy"): ["outer"],
        ("outer", "ra_proxy"): [],
        ("near", "registration_authority"): ["inner"],
        ("far", "registration_authority"): ["outer"],
        ("ca1", "certification_authority"): ["inner"],
    }
    for (node, function), names in dialled.items():
        connectors = inventory.get_host(node).vars[f"{function}_peer_connectors"]
        assert [connector["name"] for connector in connectors] == names


def test_tenant_is_tried_with_the_cas_behind_its_proxy(load):
    trials = load(CHAIN).get_host("far").vars["verification_trials"]
    assert [trial["authority"] for trial in trials] == ["two"]


def test_tenant_with_two_proxies_has_its_ca_once(load):
    more = "  - {from: near, to: outer, authorities: [one]}\n"
    near = load(CHAIN + more).get_host("near").vars
    assert [trial["authority"] for trial in near["verification_trials"]] == ["one"]
    assert {role["name"] for role in near["registration_authority_peer_roles"]} == {
        "inner",
        "outer",
        "ca1",
    }


REFUSALS = {
    "proxy without any upstream": (
        "  - {from: inner, to: outer}\n",
        "",
        "7: nodes.outer: no CA dials this proxy, nor one nearer to a CA that dials it",
    ),
    "RA that dials a proxy without upstream": (
        "  - {from: ca1, to: inner}\n",
        "",
        "8: nodes.near: no CA dials this RA, nor a proxy that it dials",
    ),
    "proxies in a loop": (
        "  - {from: near",
        "  - {from: outer, to: inner}\n  - {from: near",
        "19: links[1]: closes the loop inner -> outer -> inner",
    ),
    "proxy that is an RA too": (
        "functions: [ra_proxy], listen: {peer: 7443}}\n  outer",
        "functions: [ra_proxy, registration_authority], listen: {peer: 7443, rest: 8443}}\n  outer",
        "6: nodes.inner.functions: a proxy has no other function",
    ),
    "CA that is not behind the proxy": (
        "authorities: [two]}",
        "authorities: [root]}",
        "21: links[3].authorities[0]: root is not behind outer. Behind it are one, two",
    ),
    "proxy that dials an RA": (
        "  - {from: far, to: outer, authorities: [two]}",
        "  - {from: outer, to: far}",
        "21: links[3].from: outer is no CA, and only a CA's node dials",
    ),
    "proxy without peer port": (
        "listen: {peer: 7443}}\n  outer",
        "listen: {}}\n  outer",
        "6: nodes.inner.listen.peer: is missing, but ca1 dials inner",
    ),
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, refusal):
    old, new, expected = REFUSALS[behaviour]
    assert old in CHAIN
    told = refusal(CHAIN.replace(old, new, 1))
    assert any(line.startswith(expected) for line in told), told


def chain_of(proxies):
    """Return the topology with so many more proxies between inner and outer."""
    names = [f"p{number}" for number in range(proxies)]
    nodes = "".join(
        f"  {name}: {{zone: all, address: 198.51.100.{number}, functions: [ra_proxy], "
        "listen: {peer: 7443}}\n"
        for number, name in enumerate(names)
    )
    steps = ["inner", *names, "outer"]
    links = "".join(
        f"  - {{from: {one}, to: {other}}}\n" for one, other in itertools.pairwise(steps)
    )
    text = CHAIN.replace("profiles:\n", nodes + "profiles:\n", 1)
    return text.replace("  - {from: inner, to: outer}\n", links)


def test_chain_of_ten_proxies_is_the_longest(load, refusal):
    load(chain_of(8))
    (told,) = refusal(chain_of(9))
    assert told.startswith("9: nodes.far: its requests pass 11 proxies, at most 10 may be")
