# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a topology becomes: hosts, groups and the least rights that its links need."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleParserError

CA1, RA1, VA1 = (f"spiffe://pki.example.org/node/{name}" for name in ("ca1", "ra1", "va1"))


@pytest.fixture
def hosts(load, good):
    inventory = load(good)
    return {host.name: host.vars for host in inventory.hosts.values()}


def resources(role):
    assert all(rule.keys() == {"resource"} for rule in role["rules"])
    return [rule["resource"] for rule in role["rules"]]


def test_groups_are_functions(load, good):
    groups = load(good).get_groups_dict()
    assert groups["peersys_nodes"] == ["ca1", "ra1", "va1"]
    assert groups["management_ca"] == groups["certification_authority"] == ["ca1"]
    assert groups["registration_authority"] == ["ra1"]
    assert groups["validation_authority"] == ["va1"]


def test_ca_dials_and_listens_nowhere(hosts):
    ca1 = hosts["ca1"]
    assert ca1["node_listen"] == {}
    assert "ansible_host" not in ca1
    assert ca1["certification_authority_peer_connectors"] == [
        {"name": "ra1", "address": "ra1.example.org:7443", "peer": RA1},
        {"name": "va1", "address": "192.0.2.13:7443", "peer": VA1},
    ]


def test_ra_may_ask_for_what_its_ca_offers_and_no_more(hosts):
    ra1 = hosts["ca1"]["certification_authority_peer_roles"][0]
    assert (ra1["name"], ra1["members"]) == ("ra1", [RA1])
    assert resources(ra1) == [
        "/peer/incoming",
        "/ra/enroll",
        "/ra/revoke",
        "/ra/status",
        "/ra/search",
        "/ca/issuing",
        "/profile/tls_client",
        "/profile/tls_server",
        "/protocol/rest",
    ]


def test_ra_brings_approvals_only_where_it_is_said(load, good):
    text = good.replace(
        "functions: [registration_authority]",
        "functions: [registration_authority]\n    approves: true",
    )
    ra1 = load(text).get_host("ca1").vars["certification_authority_peer_roles"][0]
    assert "/ra/approve" in resources(ra1)


def test_va_may_renew_its_signer_and_no_more(hosts):
    va1 = hosts["ca1"]["certification_authority_peer_roles"][1]
    assert resources(va1) == ["/peer/incoming", "/ca/issuing", "/signer/issuing/renew"]


def test_ca_may_publish_only_crls_of_the_management_ca_to_an_ra(hosts):
    (ca1,) = hosts["ra1"]["registration_authority_peer_roles"]
    assert (ca1["name"], ca1["members"]) == ("ca1", [CA1])
    assert resources(ca1) == [
        "/peer/incoming",
        "/peer/upstream",
        "/peer/publish/crl",
        "/peer/publish/read",
        "/ca/management",
        "/ca/root",
        "/ca/issuing",
    ]


def test_ca_may_publish_everything_of_its_cas_to_a_va(hosts):
    (ca1,) = hosts["va1"]["validation_authority_peer_roles"]
    assert "/peer/publish/**" in resources(ca1)
    assert hosts["va1"]["validation_authority_signers"] == [
        {"name": "issuing", "authority": "issuing"}
    ]


def test_publishers_bring_cas_to_vas_and_the_management_crl_to_everyone(hosts):
    assert hosts["ca1"]["certification_authority_publishers"] == [
        {"name": "management-ra1", "peer": RA1, "authorities": ["management"], "content": ["crl"]},
        {"name": "va1", "peer": VA1, "authorities": ["root", "issuing"]},
        {"name": "management-va1", "peer": VA1, "authorities": ["management"], "content": ["crl"]},
    ]


def test_a_link_says_what_goes_to_its_va_and_what_silence_means(good, load):
    options = "publish: {content: [status, crl], only_revoked: true, unknown_serial: good}"
    inventory = load(good.replace("to: va1}", f"to: va1, {options}}}"))
    ca1 = inventory.get_host("ca1").vars["certification_authority_publishers"]
    assert ca1[1] == {
        "name": "va1",
        "peer": VA1,
        "authorities": ["root", "issuing"],
        "content": ["status", "crl"],
        "only_revoked": True,
    }
    assert inventory.get_host("va1").vars["validation_authority_signers"] == [
        {"name": "issuing", "authority": "issuing", "unknown_serial": "good"}
    ]


def test_certificates_carry_the_addresses_of_the_vas(hosts):
    root, issuing = hosts["ca1"]["certification_authority_authorities"]
    assert issuing["ocsp_urls"] == ["http://192.0.2.13/ocsp"]
    assert issuing["crl_urls"] == ["http://192.0.2.13/crl/issuing.crl"]
    assert issuing["issuer_urls"] == ["http://192.0.2.13/ca/issuing.cer"]
    assert "ocsp_urls" not in root
    assert root["crypto_token"] == "root"


def test_server_certificate_names_the_rest_address(hosts):
    assert hosts["ra1"]["authenticator_authenticators"] == [
        {"name": "peer"},
        {
            "name": "rest",
            "purpose": "server",
            "dns_names": ["ra1.example.org"],
            "ip_addresses": [],
        },
    ]
    assert hosts["va1"]["authenticator_authenticators"] == [{"name": "peer"}]


def test_trial_takes_a_profile_with_dns_names(hosts):
    (trial,) = hosts["ra1"]["verification_trials"]
    assert trial["profile"] == "tls_server"
    assert trial["validation_authorities"] == [
        {"name": "va1", "url": "http://192.0.2.13", "crls": ["issuing", "root"]}
    ]


def test_trial_takes_no_profile_that_people_approve(load, good):
    text = good.replace("tls_server:\n", "tls_server:\n    approvals: 1\n")
    (trial,) = load(text).get_host("ra1").vars["verification_trials"]
    assert trial["profile"] == "tls_client"


def test_both_ends_of_a_link_are_verified(hosts):
    assert hosts["ca1"]["verification_peers"] == ["ra1", "va1"]
    assert hosts["ra1"]["verification_peers"] == hosts["va1"]["verification_peers"] == ["ca1"]


def test_link_with_authorities_grants_only_those(load, good):
    more = "  other: {node: ca1, issuer: root, subject: CN=O, profiles: [tls_client]}\nlinks:"
    text = good.replace("links:", more).replace("to: ra1}", "to: ra1, authorities: [other]}")
    ca1 = load(text).get_host("ca1").vars
    granted = resources(ca1["certification_authority_peer_roles"][0])
    assert "/ca/other" in granted
    assert "/ca/issuing" not in granted
    assert "/profile/tls_server" not in granted


def test_addresses_may_be_templates(load, good):
    text = good.replace("192.0.2.13", "\"{{ [192, 0, 2] | join('.') }}.13\"")
    assert load(text).get_host("va1").vars["node_listen"]["status"] == "192.0.2.13:80"


def test_patterns_of_profiles_are_never_templates(load, good):
    text = good.replace("[a-z]{2,8}", "{{ 1 }}")
    (_client, server) = load(text).get_host("ca1").vars["certification_authority_profiles"][::-1]
    assert server["san"][0]["pattern"].startswith("{{ 1 }}")


def test_ipv6_addresses_are_bracketed(load, good):
    inventory = load(good.replace("192.0.2.13", "'2001:db8::13'"))
    assert inventory.get_host("va1").vars["node_listen"]["peer"] == "[2001:db8::13]:7443"
    ca1 = inventory.get_host("ca1").vars
    assert ca1["certification_authority_peer_connectors"][1]["address"] == "[2001:db8::13]:7443"
    assert ca1["certification_authority_authorities"][1]["ocsp_urls"] == [
        "http://[2001:db8::13]/ocsp"
    ]


def test_variables_of_a_node_win(load, good):
    text = good.replace(
        "    address: 192.0.2.13",
        "    address: 192.0.2.13\n    variables: {x: 1, ansible_host: va}",
    )
    va1 = load(text).get_host("va1").vars
    assert (va1["x"], va1["ansible_host"]) == (1, "va")


def test_each_host_knows_where_it_is_declared(hosts):
    assert hosts["ra1"]["peersys_declared_at"].endswith("topology.yml:10: nodes.ra1")


def test_refusal_names_file_and_line(load, good):
    with pytest.raises(AnsibleParserError, match=r"/topology\.yml:29: links\[1\]\.to: unknown"):
        load(good.replace("to: va1}", "to: va2}"))
