# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Impossible hosts are refused with line, key and remedy: addresses, networks, stores, clients."""

from __future__ import annotations

import pytest

# behaviour: (what is replaced in the wide topology, by what, the refusal)
REFUSALS = {
    "unknown store": (
        "store: main\n  ca2",
        "store: mian\n  ca2",
        "18: nodes.ca1.store: unknown store 'mian'. Known are main",
    ),
    "store in an unknown zone": (
        "host: db1, zone: inner",
        "host: db1, zone: core",
        "12: stores.main.zone: unknown zone 'core'. Add it to zones",
    ),
    "client in an unknown zone": (
        "client1: {zone: clients",
        "client1: {zone: client",
        "35: clients.client1.zone: unknown zone 'client'",
    ),
    "store that nobody uses": (
        "stores:\n",
        "stores:\n  other: {host: db2, zone: inner, address: 192.0.2.22}\n",
        "12: stores.other: no node uses it. Give a node store: other",
    ),
    "store without host": (
        "{host: db1, zone",
        "{zone",
        "12: stores.main.host: is missing below stores.main",
    ),
    "database that is none": (
        "{host: db1,",
        "{host: db1, database: 'x; drop',",
        "12: stores.main.database: 'x; drop' is no name of a database",
    ),
    "port of a store that is none": (
        "{host: db1,",
        "{host: db1, port: 70000,",
        "12: stores.main.port: 70000 is no port",
    ),
    "two Management CAs on different stores": (
        "store: main\n  ra1",
        "store: other\n  ra1",
        "23: nodes.ca2.functions: ca1 holds the Management CA already. Keep one, or give both "
        "nodes one store",
    ),
    "CA whose issuer is on another store": (
        "store: main\n  ra1",
        "store: other\n  ra1",
        "41: authorities.issuing.issuer: root is on another node",
    ),
    "two CA nodes on SQLite with one CA": (
        "    store: main\n  ra1",
        "  ra1",
        "39: authorities.issuing.issuer: root is on another node",
    ),
    "RA on the store of CAs": (
        "functions: [registration_authority]",
        "functions: [registration_authority]\n    store: main",
        "27: nodes.ra1.functions: ra1 shares the store main with ca1, and so its functions",
    ),
    "nodes of one store that do different things": (
        "functions: [management_ca, certification_authority]\n    store: main\n  ra1",
        "functions: [certification_authority]\n    store: main\n  ra1",
        "22: nodes.ca2.functions: ca2 shares the store main with ca1, and so its functions. Write "
        "functions: [management_ca, certification_authority]",
    ),
    "nodes of one store that dial different peers": (
        "  - {from: ca2, to: va1}\n",
        "",
        "43: links[1]: ca2 shares the store main with ca1, but ca2 has no such link. Add such a "
        "link from ca2 to va1",
    ),
    "store in a zone that its node must not dial": (
        "{host: db1, zone: inner, address: 192.0.2.21}",
        "{host: db1, zone: clients, address: 203.0.113.21}",
        "18: nodes.ca1.store: zone inner must not dial clients",
    ),
    "network that is none": (
        "[198.51.100.0/24]",
        "[198.51.100.7/24]",
        "7: zones.outer.networks[0]: '198.51.100.7/24' is no network",
    ),
    "zone without networks": (
        "outer: {networks: [198.51.100.0/24]}",
        "outer: {}",
        "7: zones.outer.networks: is missing, but other zones have networks",
    ),
    "networks of two zones that overlap": (
        "[203.0.113.0/24, ",
        "[198.51.100.128/25, 203.0.113.0/24, ",
        "9: zones.clients.networks[0]: 198.51.100.128/25 overlaps 198.51.100.0/24 of zone outer",
    ),
    "address outside the networks of its zone": (
        "address: 192.0.2.12",
        "address: 10.0.0.12",
        "21: nodes.ca2.address: 10.0.0.12 is in no network of zone inner. Add its network to "
        "zones.inner.networks",
    ),
    "address in everybody's network that belongs to a narrower zone": (
        "[203.0.113.0/24, '2001:db8::/64']\n    dials: [outer]",
        "['0.0.0.0/0']\n    dials: [outer]\n  other: {networks: [203.0.113.0/24]}",
        "36: clients.client1.address: 203.0.113.11 is in a network of zone other. Write zone: "
        "other, or another address",
    ),
    "node and client with one address": (
        "address: 203.0.113.11",
        "address: 198.51.100.11",
        "35: clients.client1.address: ra1 has 198.51.100.11 already",
    ),
    "node and store with one name": (
        "{host: db1",
        "{host: ca1",
        "12: stores.main.host: ca1 is the name of another host already",
    ),
    "node and client with one name": (
        "client1:",
        "ra1:",
        "35: clients.ra1: ra1 is the name of another host already",
    ),
    "CA without address": (
        "    address: 192.0.2.11\n",
        "",
        "14: nodes.ca1.address: is missing. Write its IP address",
    ),
    "CA with a name instead of an address": (
        "192.0.2.11",
        "ca1.example.org",
        "16: nodes.ca1.address: ca1.example.org is a name. Write its IP address",
    ),
    "RA that no client could reach": (
        "    dials: [outer]\nstores",
        "    dials: []\nstores",
        "28: nodes.ra1.listen.rest: no client could reach it. Add a zone of clients that dials outer",
    ),
    "client that verifies what it must not dial": (
        "{zone: clients, address: 203.0.113.11}",
        "{zone: guests, address: 10.1.0.1}",
        "36: clients.client1: verifies ra1, but zone guests must not dial outer",
    ),
    "unknown key of a zone": (
        "    networks: [192.0.2.0/24]",
        "    network: [192.0.2.0/24]",
        "5: zones.inner.network: unknown key. Did you mean networks?",
    ),
    "unknown key of a client": (
        "client1: {zone",
        "client1: {listen: {}, zone",
        "35: clients.client1.listen: unknown key",
    ),
}
_OTHER_STORE = ("stores:\n", "stores:\n  other: {host: db2, zone: inner, address: 192.0.2.22}\n")
# What else is replaced for it, so that it is the only fault of its stage.
MORE = {
    "two Management CAs on different stores": [_OTHER_STORE, ("node: ca2", "node: ca1")],
    "CA whose issuer is on another store": [_OTHER_STORE],
    "client that verifies what it must not dial": [
        ("stores:\n", "  guests: {networks: [10.1.0.0/24]}\nstores:\n")
    ],
}


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_refused(behaviour, wide, refusal):
    old, new, expected = REFUSALS[behaviour]
    text = wide
    assert old in text
    text = text.replace(old, new, 1)
    for more in MORE.get(behaviour, ()):
        text = text.replace(*more, 1)
    told = refusal(text)
    assert any(line.startswith(expected) for line in told), told


def test_cas_on_one_store_may_be_written_at_either_node(load, wide):
    at_the_other = wide.replace("issuing: {node: ca2", "issuing: {node: ca1")
    assert at_the_other != wide
    written = [authorities_by_host(load(text)) for text in (wide, at_the_other)]
    assert written[0] == written[1]


def authorities_by_host(inventory):
    """The CAs that each host is told to have."""
    variable = "certification_authority_authorities"
    return {
        name: host.vars[variable] for name, host in inventory.hosts.items() if variable in host.vars
    }
