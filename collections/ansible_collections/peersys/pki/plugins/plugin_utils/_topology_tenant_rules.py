# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can't be among tenants: they share what is everybody's, and nothing of each other's."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import Fault, Path
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import Node, Topology

Faults = t.Iterator[Fault]
# CAs and proxies hold the rights of all tenants.
_EVERYBODYS = ("management_ca", "certification_authority", "ra_proxy")


def _nothing_is_another_tenants(topology: Topology) -> Faults:
    for path, section, name in _references(topology):
        own, other = topology.tenant_of(path), topology.tenant_of((section, name))
        if own is not None and other is not None and own != other:
            remedy = f"Tenant {own} may name what is its own, or in no tenant's file"
            yield Fault(path, f"{name} is of tenant {other}", remedy)


def _references(topology: Topology) -> t.Iterator[tuple[Path, str, str]]:
    """Yield where something is named, and what: its section, its name."""
    for zone in topology.zones.values():
        for name in (*zone.dials, *zone.dialled_by):
            yield ("zones", zone.name, "dials"), "zones", name
    for host in topology.hosts():
        yield (*host.path, "zone"), "zones", host.zone
    for one in topology.authorities.values():
        path: Path = ("authorities", one.name)
        yield (*path, "node"), "nodes", one.node
        if one.issuer is not None:
            yield (*path, "issuer"), "authorities", one.issuer
        for index, name in enumerate(one.profiles):
            yield (*path, "profiles", index), "profiles", name
    for link in topology.links:
        path = ("links", link.index)
        yield (*path, "from"), "nodes", link.source
        yield (*path, "to"), "nodes", link.target
        for index, name in enumerate(link.authorities or ()):
            yield (*path, "authorities", index), "authorities", name


def _tenants_bring_what_is_theirs(topology: Topology) -> Faults:
    for node in topology.nodes.values():
        tenant = topology.tenant_of(("nodes", node.name))
        if tenant is None:
            continue
        for index, function in enumerate(node.functions):
            if function in _EVERYBODYS:
                path: Path = ("nodes", node.name, "functions", index)
                yield Fault(path, f"tenant {tenant} can't bring it", "Write it in the topology")
        if topology.tenant_of(("zones", node.zone)) != tenant:
            message = f"zone {node.zone} isn't one of tenant {tenant}"
            remedy = "Give the tenant a zone of its own, in the same file"
            yield Fault(("nodes", node.name, "zone"), message, remedy)


def _links_of_ras_say_whose_cas(topology: Topology) -> Faults:
    """A link without ``authorities`` is for all CAs behind it, and those of tenants are not."""
    tenants = {topology.tenant_of(("authorities", name)) for name in topology.authorities} - {None}
    if not tenants:
        return
    for link in topology.links:
        ends = (topology.nodes[link.source], topology.nodes[link.target])
        names_none = link.authorities is None and any(
            end.has("registration_authority") for end in ends
        )
        if names_none or link.authorities == ():
            remedy = "Write authorities: and the CAs that this RA is for"
            yield Fault(("links", link.index), "would be for the CAs of all tenants", remedy)


def _cas_reach_only_their_tenants_ra(topology: Topology) -> Faults:
    """An RA of one tenant, or of nobody, isn't given another tenant's CA, by whomever's link."""
    for link in topology.links:
        for end in (topology.nodes[link.source], topology.nodes[link.target]):
            if not end.has("registration_authority"):
                continue
            whose = topology.tenant_of(("nodes", end.name))
            for index, name in enumerate(link.authorities or ()):
                tenant = topology.tenant_of(("authorities", name))
                if tenant not in (None, whose):
                    path: Path = ("links", link.index, "authorities", index)
                    message = f"{name} is of tenant {tenant}, and {end.name} isn't"
                    yield Fault(path, message, "Leave it away")


def _issuers_differ(topology: Topology) -> Faults:
    if topology.issuers:
        # Loaded already, by whoever read them, and by nobody else.
        from ansible_collections.peersys.pki.plugins.plugin_utils import _topology_issuers

        yield from _topology_issuers.issuers_differ(topology)


def _foreign_nodes_are_only_named(topology: Topology) -> Faults:
    """Of a node that a tenant runs and certifies, no more is known than whom to let in."""
    for name, node in topology.nodes.items():
        if topology.issuer_of(name) is None:
            if node.called != name:
                message = "only a tenant with a Management CA of its own calls a node otherwise"
                yield Fault(("nodes", name, "name"), message, "Leave it away")
            continue
        for index, function in enumerate(node.functions):
            if function == "validation_authority":
                message = "a tenant that certifies its nodes brings RAs and no VA"
                yield Fault(("nodes", name, "functions", index), message, "Leave it away")
        for key in _set_on_its_host(node):
            message = "is said on the tenant's side, where the node is run"
            yield Fault(("nodes", name, key), message, "Leave it away")


def _set_on_its_host(node: Node) -> t.Iterator[str]:
    for key in ("listen", "server_names", "status_url", "store", "variables"):
        if getattr(node, key):
            yield key


TENANT_RULES = (
    _issuers_differ,
    _foreign_nodes_are_only_named,
    _nothing_is_another_tenants,
    _tenants_bring_what_is_theirs,
    _links_of_ras_say_whose_cas,
    _cas_reach_only_their_tenants_ra,
)
