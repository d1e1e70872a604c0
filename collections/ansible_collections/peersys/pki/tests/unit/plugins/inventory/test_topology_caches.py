# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Caches in front of VAs: who may ask whom, where clients are sent, and what is refused."""

from __future__ import annotations

import pytest

OWN_HOST = """\
status_caches:
  cache1:
    zone: outer
    address: 198.51.100.31
    validation_authorities: [va1, va2]
"""
ON_THE_VA = """\
status_caches:
  va1:
    listen: 80
    validation_authorities: [va1, va2]
"""
CLIENTS = ["203.0.113.0/24", "2001:db8::/64"]


@pytest.fixture(scope="module")
def two_vas(wide):
    """A topology with networks and two VAs."""
    node = """\
  va2:
    zone: outer
    address: 198.51.100.22
    functions: [validation_authority]
    listen: {peer: 7443, status: 80}
clients:
"""
    text = wide.replace("address: va1.example.org", "address: 198.51.100.21")
    text = text.replace("clients:\n  client1", f"{node}  client1", 1)
    return text + "  - {from: ca1, to: va2}\n  - {from: ca2, to: va2}\n"


@pytest.fixture(scope="module")
def hosts(load_once, two_vas):
    """Variables by host, the cache on one of its own."""
    return load_once(two_vas + OWN_HOST)


@pytest.fixture(scope="module")
def on_the_va(load_once, two_vas):
    """Variables by host, the cache on that of a VA whose own port others can't reach."""
    text = two_vas.replace("status: 80", "status: '127.0.0.1:80'", 1)
    return load_once(text + ON_THE_VA.replace("[va1, va2]", "[va1]"))


def rules(variables):
    return {rule["port"]: rule["from"] for rule in variables["firewall_rules"]}


def probed(variables, expect):
    return {
        (probe["host"], probe["port"])
        for probe in variables["verification_probes"]
        if probe["expect"] == expect
    }


def trial(hosts):
    return hosts["ra1"]["verification_trials"][0]["validation_authorities"]


def test_cache_asks_its_vas_in_order(hosts):
    cache1 = hosts["cache1"]
    assert cache1["status_cache_listen"] == ["198.51.100.31:80"]
    assert cache1["status_cache_upstreams"] == ["198.51.100.21:80", "198.51.100.22:80"]
    assert cache1["ansible_host"] == "198.51.100.31"
    assert cache1["peersys_secrets"] == []
    assert cache1["firewall_owner"] == {"name": "cache1", "trust_domain": "pki.example.org"}


def test_clients_reach_the_cache_and_only_the_cache_reaches_its_vas(hosts):
    assert rules(hosts["cache1"]) == {80: CLIENTS}
    assert rules(hosts["va1"])[80] == rules(hosts["va2"])[80] == ["198.51.100.31"]
    assert ("cache1", 80) in probed(hosts["client1"], "open")
    assert {("va1", 80), ("va2", 80)} <= probed(hosts["client1"], "closed")
    assert not {("va1", 80), ("va2", 80)} & probed(hosts["cache1"], "closed")


def test_certificates_and_trials_name_the_cache_alone(hosts):
    _root, issuing = hosts["ca1"]["certification_authority_authorities"]
    assert issuing["ocsp_urls"] == ["http://198.51.100.31/ocsp"]
    assert issuing["crl_urls"] == ["http://198.51.100.31/crl/issuing.crl"]
    url, crls = "http://198.51.100.31", ["issuing", "root"]
    assert trial(hosts) == [{"name": "cache1", "url": url, "crls": crls, "cached_seconds": 2.0}]
    assert hosts["va1"]["validation_authority_url"] == url


def test_cache_has_the_address_that_clients_use(load_once, two_vas):
    text = OWN_HOST + "    url: http://status.example.org\n    listen: 8080\n"
    hosts = load_once(two_vas + text)
    assert trial(hosts)[0]["url"] == "http://status.example.org"
    assert hosts["cache1"]["status_cache_listen"] == ["198.51.100.31:8080"]
    assert rules(hosts["cache1"]) == {8080: CLIENTS}


def test_two_caches_are_both_named_and_both_let_in(load_once, two_vas):
    second = OWN_HOST.replace("cache1", "cache2").replace(".31", ".32").partition("\n")[2]
    hosts = load_once(two_vas + OWN_HOST + second)
    assert [one["name"] for one in trial(hosts)] == ["cache1", "cache2"]
    assert rules(hosts["va1"])[80] == ["198.51.100.31", "198.51.100.32"]


def test_va_without_cache_stands_beside_one_with(load_once, two_vas):
    hosts = load_once(two_vas + OWN_HOST.replace("[va1, va2]", "[va1]"))
    assert [one["name"] for one in trial(hosts)] == ["cache1", "va2"]
    assert "cached_seconds" not in trial(hosts)[1]
    assert rules(hosts["va2"])[80] == CLIENTS


def test_cache_on_its_vas_host_is_no_host_of_its_own(on_the_va):
    va1 = on_the_va["va1"]
    assert va1["status_cache_listen"] == ["198.51.100.21:80"]
    assert va1["status_cache_upstreams"] == ["127.0.0.1:80"]
    assert va1["node_name"] == "va1"
    assert va1["peersys_secrets"]
    assert rules(va1)[80] == CLIENTS
    assert ("va1", 80) in probed(on_the_va["client1"], "open")


def test_status_port_behind_a_cache_on_its_host_is_open_to_nobody(load_once, two_vas):
    text = two_vas.replace("status: 80", "status: 8080", 1)
    hosts = load_once(text + ON_THE_VA)
    assert rules(hosts["va1"])[8080] == []
    assert ("va1", 8080) in probed(hosts["client1"], "closed")
    # The second VA is asked from the first one's host.
    assert rules(hosts["va2"])[80] == ["198.51.100.21"]
    assert hosts["va1"]["status_cache_upstreams"] == ["198.51.100.21:8080", "198.51.100.22:80"]


def test_groups_have_the_caches(load, two_vas):
    groups = load(two_vas + OWN_HOST).get_groups_dict()
    assert groups["status_cache"] == ["cache1"]
    assert "cache1" in groups["peersys_hosts"]
    assert "cache1" in groups["firewalled_hosts"]
    assert "cache1" not in groups["peersys_nodes"]


def test_group_is_there_without_caches(load, good):
    assert load(good).get_groups_dict()["status_cache"] == []


REFUSALS = {
    "unknown VA": (
        (OWN_HOST, "[va1, va2]", "[va1, va9]"),
        "57: status_caches.cache1.validation_authorities[1]: va9 is no VA with a status port. "
        "Known are va1, va2",
    ),
    "node that is no VA": (
        (OWN_HOST, "[va1, va2]", "[ra1]"),
        "57: status_caches.cache1.validation_authorities[0]: ra1 is no VA with a status port",
    ),
    "no VA": (
        (OWN_HOST, "[va1, va2]", "[]"),
        "57: status_caches.cache1.validation_authorities: there is no VA behind it",
    ),
    "VA written twice": (
        (OWN_HOST, "[va1, va2]", "[va1, va1]"),
        "57: status_caches.cache1.validation_authorities[1]: va1 is written twice",
    ),
    "cache on a node that is no VA behind it": (
        (ON_THE_VA, "  va1:", "  ra1:"),
        "54: status_caches.ra1: ra1 is a node, and none of the VAs behind it. Give the cache a host",
    ),
    "cache on a VA's host with an address": (
        (ON_THE_VA, "    listen: 80", "    address: 198.51.100.31"),
        "55: status_caches.va1.address: nodes.va1 says it already. Leave it away",
    ),
    "cache without an address": (
        (OWN_HOST, "    address: 198.51.100.31\n", ""),
        "54: status_caches.cache1.address: is missing below status_caches.cache1",
    ),
    "cache on the port of its VA": (
        (ON_THE_VA, "", ""),
        "55: status_caches.va1.listen: 198.51.100.21:80 is taken by va1 (status)",
    ),
    "cache in a zone that must not dial its VAs": (
        (OWN_HOST, "zone: outer\n    address: 198.51.100.31", "zone: other\n    address: 10.0.0.1"),
        "57: status_caches.cache1.validation_authorities[0]: zone other must not dial outer. "
        "Add outer to zones.other.dials, or move the cache",
    ),
    "cache in an unknown zone": (
        (OWN_HOST, "zone: outer", "zone: outre"),
        "55: status_caches.cache1.zone: unknown zone 'outre'",
    ),
    "cache with another host's address": (
        (OWN_HOST, "198.51.100.31", "198.51.100.11"),
        "56: status_caches.cache1.address: ra1 has 198.51.100.11 already",
    ),
    "cache with a name for an address": (
        (OWN_HOST, "198.51.100.31", "cache1.example.org"),
        "56: status_caches.cache1.address: cache1.example.org is a name. Write its IP address",
    ),
    "unknown key": (
        (OWN_HOST, "    zone: outer\n", "    zone: outer\n    functions: []\n"),
        "56: status_caches.cache1.functions: unknown key",
    ),
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, refusal, two_vas):
    (caches, old, new), message = REFUSALS[behaviour]
    assert old in caches
    text = two_vas + caches.replace(old, new, 1)
    if "zone: other" in new:
        text = text.replace("  clients:\n", "  other: {networks: [10.0.0.0/24]}\n  clients:\n", 1)
        message = message.replace("57:", "58:", 1)
    told = refusal(text)
    assert any(line.startswith(message) for line in told), told


def test_address_for_clients_is_the_caches(refusal, two_vas):
    text = two_vas.replace(
        "listen: {peer: 7443, status: 80}",
        "listen: {peer: 7443, status: 80}\n    status_url: http://x",
        1,
    )
    told = refusal(text + OWN_HOST)
    assert told == [
        "34: nodes.va1.status_url: clients ask the cache cache1. Write it at status_caches.cache1.url"
    ]


def test_vas_behind_one_cache_answer_for_the_same_cas(refusal, two_vas):
    text = two_vas.replace("to: va2}", "to: va2, authorities: [root]}")
    (told,) = refusal(text + OWN_HOST)
    assert "validation_authorities[1]: va2 answers for other CAs than va1. Give them links" in told


def test_cache_elsewhere_cannot_ask_a_port_on_loopback(refusal, two_vas):
    told = refusal(two_vas.replace("status: 80", "status: '127.0.0.1:80'", 1) + OWN_HOST)
    assert any("va1 listens on 127.0.0.1, which nobody else reaches" in line for line in told)
