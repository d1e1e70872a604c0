# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A topology that works, and what loads it and its spoilt variants."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.peersys.pki.plugins.inventory.topology import InventoryModule
from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    TopologyRefused,
    read_document,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_reader import read_topology
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_rules import check_topology

GOOD = """\
plugin: peersys.pki.topology
trust_domain: pki.example.org
zones:
  inner: {dials: [outer]}
  outer: {}
nodes:
  ca1:
    zone: inner
    functions: [management_ca, certification_authority]
  ra1:
    zone: outer
    address: ra1.example.org
    functions: [registration_authority]
    listen: {peer: 7443, rest: 8443}
  va1:
    zone: outer
    address: 192.0.2.13
    functions: [validation_authority]
    listen: {peer: 7443, status: 80}
profiles:
  tls_server:
    san: [{kind: dns, minimum: 1, pattern: '[a-z]{2,8}\\.example\\.org'}]
  tls_client: {extended_key_usage: [client_auth]}
authorities:
  root: {node: ca1, subject: CN=Root, activation: on_demand}
  issuing: {node: ca1, issuer: root, subject: CN=Issuing, profiles: [tls_client, tls_server]}
links:
  - {from: ca1, to: ra1}
  - {from: ca1, to: va1}
"""

# Zones with networks, two CA nodes on one store, a client: what real hosts add.
WIDE = """\
plugin: peersys.pki.topology
trust_domain: pki.example.org
zones:
  inner:
    networks: [192.0.2.0/24]
    dials: [outer]
  outer: {networks: [198.51.100.0/24]}
  clients:
    networks: [203.0.113.0/24, '2001:db8::/64']
    dials: [outer]
stores:
  main: {host: db1, zone: inner, address: 192.0.2.21}
nodes:
  ca1:
    zone: inner
    address: 192.0.2.11
    functions: [management_ca, certification_authority]
    store: main
  ca2:
    zone: inner
    address: 192.0.2.12
    functions: [management_ca, certification_authority]
    store: main
  ra1:
    zone: outer
    address: 198.51.100.11
    functions: [registration_authority]
    listen: {peer: 7443, rest: 8443}
  va1:
    zone: outer
    address: va1.example.org
    functions: [validation_authority]
    listen: {peer: 7443, status: 80}
clients:
  client1: {zone: clients, address: 203.0.113.11}
profiles:
  tls_server: {san: [{kind: dns}]}
authorities:
  root: {node: ca1, subject: CN=Root}
  issuing: {node: ca2, issuer: root, subject: CN=Issuing, profiles: [tls_server]}
links:
  - {from: ca1, to: ra1}
  - {from: ca1, to: va1}
  - {from: ca2, to: ra1}
  - {from: ca2, to: va1}
"""

# What tenants share, each of which brings a file of its own.
SHARED = """\
plugin: peersys.pki.topology
trust_domain: pki.example.org
zones:
  inner: {dials: [middle]}
  middle:
nodes:
  ca1: {zone: inner, functions: [management_ca, certification_authority]}
  proxy1: {zone: middle, address: 192.0.2.1, functions: [ra_proxy], listen: {peer: 7443}}
authorities:
  root: {node: ca1, subject: CN=Root}
  common: {node: ca1, issuer: root, subject: CN=Common}
links:
  - {from: ca1, to: proxy1}
"""


@pytest.fixture(scope="session")
def wide():
    """The text of a topology with networks, a shared store and a client."""
    return WIDE


@pytest.fixture
def good():
    """The text of the topology that works."""
    return GOOD


def loaded_from(directory, text):
    """Write a topology, load it as Ansible does, and return the inventory."""
    path = directory / "topology.yml"
    path.write_text(text)
    inventory = InventoryData()
    plugin = InventoryModule()
    assert plugin.verify_file(str(path))
    plugin.parse(inventory, DataLoader(), str(path))
    inventory.reconcile_inventory()
    return inventory


@pytest.fixture
def load(tmp_path):
    """Load a topology; returns the inventory as Ansible's other parts see it."""
    return lambda text: loaded_from(tmp_path, text)


@pytest.fixture(scope="module")
def load_once(tmp_path_factory):
    """Load a topology; returns the variables of each host."""

    def variables(text):
        inventory = loaded_from(tmp_path_factory.mktemp("topology"), text)
        return {host.name: host.vars for host in inventory.hosts.values()}

    return variables


@pytest.fixture
def refusal():
    """Return the lines with which a topology is refused, without the file name."""

    def lines(text):
        document = read_document("t.yml", text)
        with pytest.raises(TopologyRefused) as raised:
            check_topology(document, read_topology(document))
        return [line.removeprefix("t.yml:") for line in str(raised.value).splitlines()]

    return lines


@pytest.fixture
def shared():
    """The text of a topology with a proxy, which tenants share."""
    return SHARED


@pytest.fixture
def with_tenants(tmp_path, load):
    """Load the shared topology with the tenants' files that are given by name."""

    def load_files(*, shared=SHARED, **files):
        (tmp_path / "tenants").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / f"tenants/{name}.yml").write_text(text)
        return load(shared)

    return load_files


@pytest.fixture
def refused(with_tenants, tmp_path):
    """Return the lines with which a topology with such tenants is refused, files relative."""

    def lines(**files):
        with pytest.raises(AnsibleParserError) as raised:
            with_tenants(**files)
        return str(raised.value).replace(f"{tmp_path}/", "").splitlines()[1:]

    return lines
