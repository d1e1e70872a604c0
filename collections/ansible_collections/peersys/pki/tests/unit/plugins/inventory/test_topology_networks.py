# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from networks, stores and clients: groups, firewalls, and what proves them."""

from __future__ import annotations

import pytest


@pytest.fixture
def inventory(load, wide):
    return load(wide)


@pytest.fixture
def hosts(inventory):
    return {host.name: host.vars for host in inventory.hosts.values()}


def rules(variables):
    return {rule["port"]: rule["from"] for rule in variables["firewall_rules"]}


def probed(variables, expect):
    return {
        (probe["host"], probe["port"])
        for probe in variables["verification_probes"]
        if probe["expect"] == expect
    }


def test_groups_hold_stores_and_clients(inventory):
    groups = inventory.get_groups_dict()
    assert groups["peersys_nodes"] == ["ca1", "ca2", "ra1", "va1"]
    assert (
        groups["peersys_hosts"] == groups["firewalled_hosts"] == [*groups["peersys_nodes"], "db1"]
    )
    assert groups["postgresql_store"] == ["db1"]
    assert groups["store_main"] == ["ca1", "ca2", "db1"]
    assert groups["peersys_clients"] == ["client1"]


def test_groups_that_playbooks_name_are_there_even_if_empty(load, good):
    groups = load(good).get_groups_dict()
    assert groups["peersys_clients"] == groups["postgresql_store"] == []
    assert groups["firewalled_hosts"] == []


def test_nothing_is_closed_or_probed_without_networks(load, good):
    for host in load(good).hosts.values():
        assert "firewall_rules" not in host.vars
        assert host.vars["verification_probes"] == []
        assert host.vars["verification_host"] == "localhost"


def test_nothing_is_open_on_a_ca(hosts):
    assert hosts["ca1"]["firewall_rules"] == hosts["ca2"]["firewall_rules"] == []


def test_peer_ports_are_open_to_the_nodes_that_dial_them(hosts):
    dialling = ["192.0.2.11", "192.0.2.12"]
    assert rules(hosts["ra1"])[7443] == rules(hosts["va1"])[7443] == dialling


def test_rest_and_status_are_open_to_clients_and_not_to_the_zone_of_cas(hosts):
    clients = ["203.0.113.0/24", "2001:db8::/64"]
    assert rules(hosts["ra1"])[8443] == rules(hosts["va1"])[80] == clients


def test_own_zone_may_enrol_only_if_a_client_stands_there(load, wide):
    text = wide.replace(
        "zone: clients, address: 203.0.113.11", "zone: outer, address: 198.51.100.9"
    )
    ra1 = load(text).get_host("ra1").vars
    assert "198.51.100.0/24" in rules(ra1)[8443]


def test_database_is_open_to_its_nodes(hosts):
    assert rules(hosts["db1"]) == {5432: ["192.0.2.11", "192.0.2.12"]}
    assert hosts["db1"]["postgresql_store_clients"] == ["192.0.2.11", "192.0.2.12"]
    owner = {"name": "db1", "trust_domain": "pki.example.org"}
    assert hosts["db1"]["postgresql_store_owner"] == hosts["db1"]["firewall_owner"] == owner


def test_rules_say_whom_they_are_for(hosts):
    assert [rule["comment"] for rule in hosts["ra1"]["firewall_rules"]] == [
        "peer port, for ca1, ca2",
        "REST port, for clients",
    ]


def test_url_of_the_store_holds_no_password(hosts):
    assert hosts["ca1"]["node_store_url"].startswith(
        "postgresql+psycopg://peersys@192.0.2.21:5432/peersys?"
    )
    assert "node_store_url" not in hosts["ra1"]


def test_nodes_of_one_store_have_the_same_objects(hosts):
    derived = [
        {key: value for key, value in hosts[name].items() if key.startswith("certification_")}
        for name in ("ca1", "ca2")
    ]
    assert derived[0] == derived[1]
    assert [one["name"] for one in derived[0]["certification_authority_authorities"]] == [
        "root",
        "issuing",
    ]


def test_va_and_ra_deal_once_with_a_ca_that_two_nodes_bring(hosts):
    assert [trial["authority"] for trial in hosts["ra1"]["verification_trials"]] == ["issuing"]
    assert hosts["va1"]["validation_authority_signers"] == [
        {"name": "issuing", "authority": "issuing"}
    ]
    assert [role["name"] for role in hosts["va1"]["validation_authority_peer_roles"]] == [
        "ca1",
        "ca2",
    ]


def test_first_ca_node_certifies_identities(hosts):
    assert {hosts[name]["authenticator_management_host"] for name in ("ca2", "ra1")} == {"ca1"}


def test_every_host_knows_its_zone_and_who_verifies(hosts):
    assert hosts["db1"]["topology_zone"] == "inner"
    assert hosts["client1"]["topology_zones"]["inner"] == {
        "networks": ["192.0.2.0/24"],
        "dials": ["outer"],
    }
    assert {variables["verification_host"] for variables in hosts.values()} == {"client1"}


def test_no_port_of_a_ca_may_be_reached_by_anybody(hosts):
    everything = {("ca1", port) for port in (80, 5432, 7443, 8443)}
    for name, variables in hosts.items():
        if name != "ca1":
            assert everything <= probed(variables, "closed"), name


def test_client_reaches_services_and_nothing_else(hosts):
    assert probed(hosts["client1"], "open") == {("ra1", 8443), ("va1", 80)}
    assert {("ra1", 7443), ("va1", 7443), ("db1", 5432)} <= probed(hosts["client1"], "closed")


def test_nodes_try_only_what_is_closed_to_them(hosts):
    assert probed(hosts["ca1"], "open") == set()
    closed = probed(hosts["ca1"], "closed")
    assert ("ra1", 8443) in closed
    assert not {("ra1", 7443), ("db1", 5432)} & closed
    assert {("va1", 7443), ("va1", 80), ("db1", 5432)} <= probed(hosts["ra1"], "closed")


def test_what_everybody_may_reach_is_not_expected_to_be_closed(load, wide):
    text = wide.replace("[203.0.113.0/24, '2001:db8::/64']", "['0.0.0.0/0', '::/0']")
    ca1 = load(text).get_host("ca1").vars
    assert ("ra1", 8443) not in probed(ca1, "closed")


def test_secrets_are_named_by_host_and_group(hosts):
    assert hosts["ca1"]["peersys_secrets"] == [
        {"file": "host_vars/ca1/vault.yml", "variables": ["node_passphrase"]},
        {
            "file": "group_vars/store_main/vault.yml",
            "variables": ["node_store_password", "node_shared_passphrase"],
        },
    ]
    assert hosts["db1"]["peersys_secrets"] == [
        {"file": "group_vars/store_main/vault.yml", "variables": ["node_store_password"]}
    ]
    (_passphrase, token) = hosts["ra1"]["peersys_secrets"]
    assert token["variables"] == ["verification_token"]
    assert "peersys_secrets" not in hosts["client1"]


def test_changed_address_moves_everything_that_names_it(load, wide):
    moved = load(wide.replace("address: 198.51.100.11", "address: 198.51.100.77"))
    hosts = {host.name: host.vars for host in moved.hosts.values()}
    assert "198.51.100.11" not in str(hosts)
    ra1 = hosts["ra1"]
    assert ra1["ansible_host"] == "198.51.100.77"
    assert ra1["node_listen"] == {"peer": "198.51.100.77:7443", "rest": "198.51.100.77:8443"}
    assert ra1["registration_authority_url"] == "https://198.51.100.77:8443"
    assert ra1["authenticator_authenticators"][1]["ip_addresses"] == ["198.51.100.77"]
    for name in ("ca1", "ca2"):
        connector = hosts[name]["certification_authority_peer_connectors"][0]
        # The same name, so the connector is changed where it stands.
        assert (connector["name"], connector["address"]) == ("ra1", "198.51.100.77:7443")


def test_changed_address_of_a_ca_moves_the_firewalls_of_its_peers(load, wide):
    moved = load(wide.replace("address: 192.0.2.12", "address: 192.0.2.99"))
    hosts = {host.name: host.vars for host in moved.hosts.values()}
    assert rules(hosts["ra1"])[7443] == rules(hosts["db1"])[5432] == ["192.0.2.11", "192.0.2.99"]


def test_variables_of_stores_and_clients_win(load, wide):
    text = wide.replace("203.0.113.11}", "203.0.113.11, variables: {ansible_connection: local}}")
    client1 = load(text).get_host("client1").vars
    assert (client1["ansible_host"], client1["ansible_connection"]) == ("203.0.113.11", "local")
