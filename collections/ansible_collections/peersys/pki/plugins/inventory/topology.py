# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: topology
short_description: One file that describes a whole PKI becomes hosts, groups and variables
description:
  - Reads a topology (zones, nodes and their functions, stores, status caches, clients, CAs, profiles, links) and derives what each host needs.
  - That is connectors, peer roles on both ends, publishers, OCSP signers, authenticators, the addresses in certificates,
    the rules of each firewall, and what is tried to prove them.
  - A topology that can't work is refused before anything is touched, with file, line and key.
  - Each file C(tenants/<tenant>.yml) beside the topology is a part of it, that of one tenant. Tenants share CA nodes, proxies and VAs,
    and nothing of one may name what is another's. A tenant that certifies its own nodes says so by its trust domain and the
    certificate of its Management CA; its nodes are known to others then, and are no hosts of the inventory.
  - The groups are C(peersys_nodes) and one for each function, C(status_cache), C(postgresql_store) and one for each store, C(tenant_<tenant>) for each tenant's
    nodes, C(peersys_hosts) for all of these, C(firewalled_hosts) when zones have networks, and C(peersys_clients).
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
options:
  plugin:
    description: Marks the file as this plugin's.
    type: str
    required: true
    choices: [peersys.pki.topology]
notes:
  - The keys of the file are described in the topology reference, and by its JSON Schema.
  - Text below C(zones), C(nodes), C(stores), C(status_caches) and C(clients) and in C(trust_domain) may be a Jinja template.
"""

EXAMPLES = r"""
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
    address: va1.example.org
    functions: [validation_authority]
    listen: {peer: 7443, status: 80}
profiles:
  tls_server:
    san: [{kind: dns, minimum: 1}]
authorities:
  root: {node: ca1, subject: CN=Example Root, activation: on_demand}
  issuing: {node: ca1, issuer: root, subject: CN=Example Issuing CA, profiles: [tls_server]}
links:
  - {from: ca1, to: ra1}
  - {from: ca1, to: va1}
"""

import dataclasses
import pathlib
import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template
from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    TopologyRefused,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    FUNCTIONS,
    Host,
    Topology,
    tenant_group,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_reader import read_topology
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_rules import check_topology
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_tenants import (
    is_tenant_file,
    read_with_tenants,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_variables import host_variables

_TEMPLATED = ("trust_domain", "tenants", "zones", "nodes", "stores", "status_caches", "clients")
# Always there, if only empty, so that playbooks may name them.
_GROUPS = (
    "peersys_hosts",
    "peersys_nodes",
    "peersys_clients",
    "firewalled_hosts",
    "postgresql_store",
    "status_cache",
    *FUNCTIONS,
)
_ENDINGS = ("topology.yml", "topology.yaml")


class InventoryModule(BaseInventoryPlugin):
    """Turns a topology file into an inventory."""

    NAME = "peersys.pki.topology"

    def verify_file(self, path: str) -> bool:
        """Return whether the file is named as a topology, or is a tenant's beside one."""
        known: bool = super().verify_file(path)  # type: ignore[no-untyped-call]
        return known and (path.endswith(_ENDINGS) or is_tenant_file(pathlib.Path(path)))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Fill the inventory. Raises AnsibleParserError with every fault of the file."""
        super().parse(inventory, loader, path, cache)
        if is_tenant_file(pathlib.Path(path)):
            # It is read together with its topology, in whatever order Ansible comes to them.
            return
        try:
            document = self._templated(read_with_tenants(pathlib.Path(path)))
            topology = read_topology(document)
            check_topology(document, topology)
        except TopologyRefused as error:
            raise AnsibleParserError(f"impossible topology:\n{error}") from error
        _fill(inventory, document, topology)

    def _templated(self, document: Document) -> Document:
        if not isinstance(document.value, dict):
            return document
        value = {
            key: self._resolved(part) if key in _TEMPLATED else part
            for key, part in document.value.items()
        }
        return dataclasses.replace(document, value=value)

    def _resolved(self, value: t.Any) -> t.Any:
        if isinstance(value, dict):
            return {key: self._resolved(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._resolved(part) for part in value]
        if isinstance(value, str) and "{{" in value:
            return self.templar.template(trust_as_template(value))
        return value


def _fill(inventory: t.Any, document: Document, topology: Topology) -> None:
    # A tenant's group is there also if the tenant runs its nodes by itself.
    for group in (*_GROUPS, *map(tenant_group, sorted(set(topology.tenants.values())))):
        inventory.add_group(group)
    for host in topology.inventory_hosts():
        for group in _groups_of(topology, host):
            inventory.add_group(group)
            inventory.add_host(host.name, group=group)
        declared_at = f"{document.place(host.path)}: {'.'.join(host.path)}"
        variables = {**host_variables(topology, host), "peersys_declared_at": declared_at}
        for key, value in variables.items():
            inventory.set_variable(host.name, key, value)


def _groups_of(topology: Topology, host: Host) -> t.Iterator[str]:
    kind, name = host.path
    if kind == "clients":
        yield "peersys_clients"
        return
    yield "peersys_hosts"
    if topology.has_networks:
        yield "firewalled_hosts"
    if name in topology.caches:
        yield "status_cache"
    if kind == "stores":
        yield from ("postgresql_store", topology.stores[name].group)
        return
    if kind == "status_caches":
        return
    node = topology.nodes[name]
    yield from ("peersys_nodes", *node.functions)
    tenant = topology.tenant_of(host.path)
    if tenant is not None:
        yield tenant_group(tenant)
    if node.store is not None:
        yield topology.stores[node.store].group
