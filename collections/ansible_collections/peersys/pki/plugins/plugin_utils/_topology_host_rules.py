# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can't be among hosts: their names, addresses and networks, and the stores they share."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import Fault, Path
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Address,
    Network,
    Node,
    Topology,
    Zone,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_networks import (
    client_zones,
    verification_client,
)

Faults = t.Iterator[Fault]


def _stores_exist(topology: Topology) -> Faults:
    known = ", ".join(topology.stores) or "none"
    for name, node in topology.nodes.items():
        if node.store is not None and node.store not in topology.stores:
            path = ("nodes", name, "store")
            yield Fault(path, f"unknown store {node.store!r}", f"Known are {known}")


def _zones_of_hosts_exist(topology: Topology) -> Faults:
    for host in topology.hosts():
        if host.path[0] != "nodes" and host.zone not in topology.zones:
            yield Fault((*host.path, "zone"), f"unknown zone {host.zone!r}", "Add it to zones")


def _hosts_differ(topology: Topology) -> Faults:
    names: dict[str, Path] = {}
    addresses: dict[str, str] = {}
    for host in topology.hosts():
        first = names.setdefault(host.name, host.path)
        if first != host.path:
            key = (*host.path, "host") if host.path[0] == "stores" else host.path
            yield Fault(key, f"{host.name} is the name of another host already", "Choose another")
        if host.address is None:
            continue
        address = str(host.ip or host.address)
        owner = addresses.setdefault(address, host.name)
        if owner != host.name:
            remedy = "Each host has an address of its own"
            yield Fault((*host.path, "address"), f"{owner} has {host.address} already", remedy)


def _stores_are_used(topology: Topology) -> Faults:
    for name in topology.stores:
        if not topology.on_store(name):
            yield Fault(("stores", name), "no node uses it", f"Give a node store: {name}")


def _sharers_are_alike(topology: Topology) -> Faults:
    """Nodes of one store have the same objects, so they do the same and dial the same."""
    for name in topology.stores:
        nodes = topology.on_store(name)
        for node in nodes[1:]:
            yield from _differences(topology, nodes[0], node)


def _differences(topology: Topology, first: Node, node: Node) -> Faults:
    shared = f"{node.name} shares the store {node.store} with {first.name}"
    if not first.has("certification_authority"):
        remedy = f"Only CAs share a store: give {node.name} one of its own, or leave it away"
        yield Fault(("nodes", node.name, "store"), shared, remedy)
    elif set(node.functions) != set(first.functions):
        remedy = f"Write functions: [{', '.join(first.functions)}]"
        yield Fault(("nodes", node.name, "functions"), f"{shared}, and so its functions", remedy)
    else:
        yield from _undialled(topology, first, node, shared)
        yield from _undialled(topology, node, first, shared)


def _undialled(topology: Topology, one: Node, other: Node, shared: str) -> Faults:
    dialled = {(link.target, link.authorities) for link in topology.links_from(other.name)}
    for link in topology.links_from(one.name):
        if (link.target, link.authorities) not in dialled:
            remedy = f"Add such a link from {other.name} to {link.target}"
            yield Fault(
                ("links", link.index), f"{shared}, but {other.name} has no such link", remedy
            )


def _stores_are_reached(topology: Topology) -> Faults:
    for node in topology.nodes.values():
        if node.store is not None:
            zone = topology.stores[node.store].zone
            if not topology.zones[node.zone].may_reach(zone):
                remedy = f"Move the store, or add {zone} to zones.{node.zone}.dials"
                path = ("nodes", node.name, "store")
                yield Fault(path, f"zone {node.zone} must not dial {zone}", remedy)


def _zones_have_networks(topology: Topology) -> Faults:
    for name, zone in topology.zones.items():
        if topology.has_networks and not zone.networks:
            path = ("zones", name, "networks")
            remedy = "Firewalls need the networks of every zone, or of none"
            yield Fault(path, "is missing, but other zones have networks", remedy)


def _networks_differ(topology: Topology) -> Faults:
    owned = [
        (("zones", name, "networks", index), name, network)
        for name, zone in topology.zones.items()
        for index, network in enumerate(zone.networks)
    ]
    for (_path, owner, first), (path, _name, second) in itertools.combinations(owned, 2):
        if first.version == second.version and _overlap(first, second):
            remedy = "An address belongs to one zone"
            yield Fault(path, f"{second} overlaps {first} of zone {owner}", remedy)


def _overlap(first: Network, second: Network) -> bool:
    """Everything (0.0.0.0/0, ::/0) may be a zone: it is all that is in no other one."""
    everything = (first.prefixlen == 0) != (second.prefixlen == 0)
    return first.overlaps(second) and not everything


def _addresses_are_in_their_zone(topology: Topology) -> Faults:
    for host in topology.hosts() if topology.has_networks else ():
        if host.ip is None:
            continue
        own, narrowest = topology.zones[host.zone], _narrowest(topology, host.ip)
        path = (*host.path, "address")
        if own.holds(host.ip) < 0:
            remedy = f"Add its network to zones.{own.name}.networks"
            yield Fault(path, f"{host.address} is in no network of zone {own.name}", remedy)
        elif narrowest.holds(host.ip) > own.holds(host.ip):
            remedy = f"Write zone: {narrowest.name}, or another address"
            yield Fault(path, f"{host.address} is in a network of zone {narrowest.name}", remedy)


def _narrowest(topology: Topology, address: Address) -> Zone:
    return max(topology.zones.values(), key=lambda zone: zone.holds(address))


def _dialling_hosts_have_addresses(topology: Topology) -> Faults:
    """A firewall lets in addresses, not names: names may come to mean another host."""
    if not topology.has_networks:
        return
    for host in topology.hosts():
        kind, name = host.path
        stands_alone = kind == "nodes" and not (
            topology.links_from(name) or topology.nodes[name].store
        )
        if host.ip is None and not stands_alone:
            found = "is missing" if host.address is None else f"{host.address} is a name"
            remedy = "Write its IP address: firewalls of other hosts let only that in"
            yield Fault((*host.path, "address"), found, remedy)


def _ports_are_reached(topology: Topology) -> Faults:
    if not topology.has_networks:
        return
    for path, _name, zone in _client_ports(topology):
        if not client_zones(topology, zone):
            remedy = f"Add a zone of clients that dials {zone}"
            yield Fault(path, "no client could reach it", remedy)


def _client_ports(topology: Topology) -> t.Iterator[tuple[Path, str, str]]:
    """Yield the ports that clients use, with the host's name and zone."""
    for name, node in topology.nodes.items():
        for port in ("rest", "status"):
            if port in node.listen and not (port == "status" and topology.caches_of(name)):
                yield ("nodes", name, "listen", port), name, node.zone
    for name, cache in topology.caches.items():
        yield ("status_caches", name, "listen"), name, cache.zone


def _verifier_reaches_everyone(topology: Topology) -> Faults:
    client = verification_client(topology)
    if client is None:
        return
    asked = {name: zone for _path, name, zone in _client_ports(topology)}
    for name, zone in asked.items():
        if not topology.zones[client.zone].may_reach(zone):
            remedy = f"Add {zone} to zones.{client.zone}.dials, or put a better client first"
            message = f"verifies {name}, but zone {client.zone} must not dial {zone}"
            yield Fault(("clients", client.name), message, remedy)


HOST_RULES = (_stores_exist, _zones_of_hosts_exist)
ADDRESS_RULES = (
    _hosts_differ,
    _stores_are_used,
    _sharers_are_alike,
    _stores_are_reached,
    _zones_have_networks,
    _networks_differ,
    _addresses_are_in_their_zone,
    _dialling_hosts_have_addresses,
    _ports_are_reached,
    _verifier_reaches_everyone,
)
