# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VAs that feed VAs: who is granted what on which node, what is published, and what is refused."""

from __future__ import annotations

import pytest

# ca1 -> va1 -> va2 -> va3; va1 answers nobody.
FEED = """\
plugin: peersys.pki.topology
trust_domain: pki.example.org
zones: {all: }
nodes:
  ca1: {zone: all, functions: [management_ca, certification_authority]}
  va1: {zone: all, address: 192.0.2.1, functions: [validation_authority], listen: {peer: 7443}}
  va2:
    {zone: all, address: 192.0.2.2, functions: [validation_authority], listen: {peer: 7443, status: 80}}
  va3:
    {zone: all, address: 192.0.2.3, functions: [validation_authority], listen: {peer: 7443, status: 80}}
  ra1:
    {zone: all, address: 192.0.2.4, functions: [registration_authority], listen: {peer: 7443, rest: 1}}
profiles:
  server: {san: [{kind: dns}]}
authorities:
  root: {node: ca1, subject: CN=Root}
  one: {node: ca1, issuer: root, subject: CN=One, profiles: [server]}
  two: {node: ca1, issuer: root, subject: CN=Two}
links:
  - {from: ca1, to: va1}
  - {from: va1, to: va2}
  - {from: va2, to: va3, authorities: [root, one]}
  - {from: ca1, to: ra1}
"""
INCOMING, UPSTREAM, RELAY = "/peer/incoming", "/peer/upstream", "/peer/relay"
ONE, TWO = {"/ca/one", "/signer/one/renew"}, {"/ca/two", "/signer/two/renew"}
PUBLISH = {f"/peer/publish/{verb}" for verb in ("certificate", "status", "crl", "read")}


@pytest.fixture(scope="module")
def hosts(load_once):
    """Variables by host."""
    return load_once(FEED)


def granted(hosts, node, function="validation_authority"):
    roles = hosts[node][f"{function}_peer_roles"]
    return {role["name"]: {rule["resource"] for rule in role["rules"]} for role in roles}


def test_ca_grants_those_behind_its_va_their_signers_and_no_link(hosts):
    on_ca = granted(hosts, "ca1", "certification_authority")
    assert on_ca["va1"] == {INCOMING, RELAY} | ONE | TWO
    assert on_ca["va2"] == {RELAY} | ONE | TWO
    assert on_ca["va3"] == ONE


def test_feeding_va_grants_a_link_and_signers(hosts):
    on_va1 = granted(hosts, "va1")
    assert on_va1["va2"] == {INCOMING, RELAY} | ONE | TWO
    assert on_va1["va3"] == ONE
    assert "/peer/publish/**" in on_va1["ca1"]


def test_fed_va_believes_its_feeder_less_than_a_ca(hosts):
    on_va2 = granted(hosts, "va2")
    cas = {"/ca/management", "/ca/root", "/ca/one", "/ca/two"}
    assert on_va2["va1"] == {INCOMING, UPSTREAM, RELAY} | PUBLISH | cas
    assert on_va2["ca1"] == {UPSTREAM, "/ca/one", "/ca/two"}
    on_va3 = granted(hosts, "va3")
    assert on_va3["va2"] == {INCOMING, UPSTREAM, RELAY} | PUBLISH | cas - {"/ca/two"}
    assert on_va3["ca1"] == {UPSTREAM, "/ca/one"}
    assert "va1" not in on_va3


def test_each_va_publishes_what_it_is_told_and_the_crl_of_nodes(hosts):
    va3 = "spiffe://pki.example.org/node/va3"
    assert hosts["va2"]["validation_authority_publishers"] == [
        {"name": "va3", "peer": va3, "authorities": ["root", "one"]},
        {"name": "management-va3", "peer": va3, "authorities": ["management"], "content": ["crl"]},
    ]
    (connector,) = hosts["va2"]["validation_authority_peer_connectors"]
    assert connector == {"name": "va3", "address": "192.0.2.3:7443", "peer": va3}
    assert hosts["va3"]["validation_authority_publishers"] == []


def test_va_that_answers_nobody_has_no_signer_and_stands_in_no_certificate(hosts):
    assert hosts["va1"]["validation_authority_signers"] == []
    assert [one["name"] for one in hosts["va2"]["validation_authority_signers"]] == ["one", "two"]
    _root, one, two = hosts["ca1"]["certification_authority_authorities"]
    assert one["ocsp_urls"] == ["http://192.0.2.2/ocsp", "http://192.0.2.3/ocsp"]
    assert two["ocsp_urls"] == ["http://192.0.2.2/ocsp"]


def test_every_va_that_answers_is_asked_and_every_link_pinged(hosts):
    (trial,) = hosts["ra1"]["verification_trials"]
    assert trial["validation_authorities"] == [
        {"name": "va2", "url": "http://192.0.2.2", "crls": ["one", "root"]},
        {"name": "va3", "url": "http://192.0.2.3", "crls": ["one", "root"]},
    ]
    assert hosts["va2"]["verification_peers"] == ["va1", "va3"]


def test_less_content_and_what_silence_means_go_on(load_once):
    options = "publish: {content: [status, crl], only_revoked: true, unknown_serial: good}"
    hosts = load_once(FEED.replace("to: va1}", f"to: va1, {options}}}"))
    assert hosts["va2"]["validation_authority_publishers"][0]["content"] == ["status", "crl"]
    for name in ("va2", "va3"):
        signers = hosts[name]["validation_authority_signers"]
        assert {one["unknown_serial"] for one in signers} == {"good"}


def test_va_that_a_ca_and_a_va_tell_has_one_role_for_each(load_once):
    hosts = load_once(FEED + "  - {from: ca1, to: va2}\n")
    assert granted(hosts, "va2").keys() == {"ca1", "va1", "va3"}
    assert INCOMING in granted(hosts, "va2")["ca1"]
    assert [one["name"] for one in hosts["va2"]["validation_authority_signers"]] == ["one", "two"]


REFUSALS = {
    "loop of VAs": (
        "  - {from: ca1, to: ra1}",
        "  - {from: va3, to: va1}\n  - {from: ca1, to: ra1}",
        "21: links[1]: closes the loop va1 -> va2 -> va3 -> va1. Remove one",
    ),
    "VA that nobody feeds": (
        "  - {from: va1, to: va2}\n",
        "",
        "7: nodes.va2: no CA publishes to this VA",
    ),
    "VA that feeds what isn't published to it": (
        "  - {from: ca1, to: va1}",
        "  - {from: ca1, to: va1, authorities: [root, two]}",
        "22: links[2].authorities[1]: one is not published to va2. Published to it are root, two",
    ),
    "VA that feeds what it isn't sent": (
        "  - {from: ca1, to: va1}\n  - {from: va1, to: va2}",
        "  - {from: ca1, to: va1, publish: {content: [crl]}}\n"
        "  - {from: va1, to: va2, publish: {content: [status, crl]}}",
        "21: links[1].publish.content: va1 is sent no status itself. It is sent crl",
    ),
    "VA that answers nobody and feeds nobody": (
        "  - {from: va1, to: va2}",
        "  - {from: ca1, to: va2}",
        "6: nodes.va1.listen.status: is missing on a validation authority",
    ),
    "VA that dials an RA": (
        "{from: ca1, to: ra1}",
        "{from: va1, to: ra1}",
        "23: links[3].from: va1 is no CA, and only a CA's node dials, apart from who dials a proxy",
    ),
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, refusal):
    old, new, message = REFUSALS[behaviour]
    assert FEED.count(old) == 1
    told = refusal(FEED.replace(old, new))
    assert any(line.startswith(message) for line in told), told


@pytest.mark.parametrize(("number", "is_refused"), [(10, False), (11, True)])
def test_what_passed_too_many_nodes_is_refused(number, is_refused, refusal, load_once):
    text, links = FEED, ""
    for index in range(4, number + 1):
        node = f"{{zone: all, address: 192.0.2.{index + 10}, functions: [validation_authority]"
        text = text.replace(
            "  ra1:\n", f"  va{index}: {node}, listen: {{peer: 1, status: 2}}}}\n  ra1:\n"
        )
        links += f"  - {{from: va{index - 1}, to: va{index}}}\n"
    if not is_refused:
        assert f"va{number}" in load_once(text + links)
        return
    (told,) = refusal(text + links)
    assert f"nodes.va{number}: what it is told has passed {number} nodes, at most 10 may be" in told
