# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What makes a topology impossible. Each rule yields every fault that it finds."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    Fault,
    Path,
    TopologyRefused,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_cache_rules import (
    CACHE_NAMES,
    CACHE_RULES,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chain_rules import CHAIN_RULES
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chains import ways_from
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_host_rules import (
    ADDRESS_RULES,
    HOST_RULES,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Endpoint,
    Link,
    Topology,
    is_ip_address,
    is_loopback,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_tenant_rules import TENANT_RULES

Faults = t.Iterator[Fault]


def check_topology(document: Document, topology: Topology) -> None:
    """Raise TopologyRefused with every fault of the topology.

    Rules about directions only make sense once all names are known, so those come second.
    """
    for rules in (_NAMES, _DIRECTIONS):
        faults = [fault for rule in rules for fault in rule(topology)]
        if faults:
            raise TopologyRefused(document, faults)


def _nodes_exist(topology: Topology) -> Faults:
    known = ", ".join(topology.nodes) or "none"
    for link in topology.links:
        for key, node in (("from", link.source), ("to", link.target)):
            if node not in topology.nodes:
                yield Fault(
                    ("links", link.index, key), f"unknown node {node!r}", f"Known are {known}"
                )
    for name, authority in topology.authorities.items():
        if authority.node not in topology.nodes:
            path = ("authorities", name, "node")
            yield Fault(path, f"unknown node {authority.node!r}", f"Known are {known}")


def _zones_exist(topology: Topology) -> Faults:
    for name, node in topology.nodes.items():
        if node.zone not in topology.zones:
            yield Fault(("nodes", name, "zone"), f"unknown zone {node.zone!r}", "Add it to zones")
    for name, dialling in topology.zones.items():
        for index, zone in enumerate(dialling.dials):
            if zone not in topology.zones:
                path = ("zones", name, "dials", index)
                yield Fault(path, f"unknown zone {zone!r}", "Add it to zones")


def _approvals_come_through_ras(topology: Topology) -> Faults:
    for name, node in topology.nodes.items():
        if node.approves and not node.has("registration_authority"):
            path = ("nodes", name, "approves")
            yield Fault(path, f"{name} is no RA", "Approvers come to a registration_authority")


def _authorities_exist(topology: Topology) -> Faults:
    for name, authority in topology.authorities.items():
        issuer = authority.issuer
        path = ("authorities", name, "issuer")
        if authority.kind == "issuing" and issuer is None:
            yield Fault(("authorities", name), "an issuing CA needs an issuer", "Name a root CA")
        elif issuer is not None and issuer not in topology.authorities:
            yield Fault(path, f"unknown CA {issuer!r}", "Add it to authorities")
        elif issuer is not None and not _together(topology, issuer, authority.node):
            yield Fault(path, f"{issuer} is on another node", "Put both on one node or store")


def _together(topology: Topology, authority: str, node: str) -> bool:
    host = topology.authorities[authority].node
    return node == host or (
        {node, host} <= topology.nodes.keys() and node in topology.sharing(host)
    )


def _authorities_of_links_exist(topology: Topology) -> Faults:
    for link in topology.links:
        for index, name in enumerate(link.authorities or ()):
            authority = topology.authorities.get(name)
            path = ("links", link.index, "authorities", index)
            if authority is None:
                yield Fault(path, f"unknown CA {name!r}", "Add it to authorities")
            elif _is_ca(topology, link.source) and not _together(topology, name, link.source):
                yield Fault(path, f"{name} is not on {link.source}", f"It is on {authority.node}")


def _is_ca(topology: Topology, node: str) -> bool:
    return node in topology.nodes and topology.nodes[node].has("certification_authority")


def _issuers_are_no_loop(topology: Topology) -> Faults:
    for name in topology.authorities:
        seen = {name}
        issuer = topology.authorities[name].issuer
        while issuer in topology.authorities and issuer not in seen:
            seen.add(issuer)
            issuer = topology.authorities[issuer].issuer
        if issuer == name:
            yield Fault(("authorities", name, "issuer"), "CAs sign each other in a loop")


def _profiles_exist(topology: Topology) -> Faults:
    for name, authority in topology.authorities.items():
        for index, profile in enumerate(authority.profiles):
            if profile not in topology.profiles:
                path = ("authorities", name, "profiles", index)
                yield Fault(path, f"unknown profile {profile!r}", "Add it to profiles")


def _names_differ(topology: Topology) -> Faults:
    management = topology.management["name"]
    if management in topology.authorities:
        path = ("authorities", management)
        yield Fault(path, "the Management CA has this name already", "Choose another one")
    seen: dict[tuple[str, str], int] = {}
    for link in topology.links:
        first = seen.setdefault((link.source, link.target), link.index)
        if first != link.index:
            yield Fault(("links", link.index), f"written already as links[{first}]", "Keep one")


def _one_management_ca(topology: Topology) -> Faults:
    holders = topology.having("management_ca")
    if not holders:
        remedy = "Give one node the function management_ca"
        yield Fault(("nodes",), "no node holds the Management CA", remedy)
    for node in holders[1:]:
        if node.name not in topology.sharing(holders[0].name):
            path = ("nodes", node.name, "functions")
            remedy = "Keep one, or give both nodes one store"
            yield Fault(path, f"{holders[0].name} holds the Management CA already", remedy)


def _hosts_are_authorities(topology: Topology) -> Faults:
    for name, authority in topology.authorities.items():
        if not topology.nodes[authority.node].has("certification_authority"):
            remedy = f"Give {authority.node} the function certification_authority"
            yield Fault(("authorities", name, "node"), f"{authority.node} is no CA", remedy)


def _no_port_on_authorities(topology: Topology) -> Faults:
    for node in topology.having("certification_authority"):
        if "peer" in node.listen:
            path = ("nodes", node.name, "listen", "peer")
            yield Fault(path, "a CA has no inbound peer port", "Remove it: a CA dials its peers")


def _authorities_are_not_dialled(topology: Topology) -> Faults:
    for link in topology.links:
        target = topology.nodes[link.target]
        if target.has("certification_authority"):
            path: Path = ("links", link.index, "to")
            remedy = f"Write from: {link.target} and to: {link.source}"
            yield Fault(path, f"{link.source} must not dial the CA {link.target}", remedy)
        elif "peer" not in target.listen or target.address is None:
            path = ("nodes", link.target, "listen", "peer")
            remedy = "Give the node an address and a peer port"
            yield Fault(path, f"is missing, but {link.source} dials {link.target}", remedy)


def _authorities_dial(topology: Topology) -> Faults:
    for link in topology.links:
        source, target = topology.nodes[link.source], topology.nodes[link.target]
        passes_on = source.has("ra_proxy") or source.has("registration_authority")
        if source.has("certification_authority") or (passes_on and target.has("ra_proxy")):
            continue
        if topology.feeds(link):
            continue
        path = ("links", link.index, "from")
        remedy = f"Give {link.source} the function certification_authority"
        message = f"{link.source} is no CA, and only a CA's node dials"
        yield Fault(
            path, f"{message}, apart from who dials a proxy, or a VA that feeds one", remedy
        )


def _zones_allow_links(topology: Topology) -> Faults:
    for link in topology.links:
        source, target = topology.nodes[link.source].zone, topology.nodes[link.target].zone
        if not topology.zones[source].may_reach(target):
            remedy = f"Turn the link round, or add {target} to zones.{source}.dials"
            yield Fault(("links", link.index), f"zone {source} must not dial {target}", remedy)


def _links_are_no_loop(topology: Topology) -> Faults:
    for link in topology.links:
        way = _way_back(topology, link)
        if way:
            yield Fault(("links", link.index), f"closes the loop {' -> '.join(way)}", "Remove one")
            return


def _way_back(topology: Topology, link: Link) -> list[str]:
    waiting, seen = [[link.source, link.target]], {link.target}
    while waiting:
        way = waiting.pop()
        if way[-1] == link.source:
            return way
        for onward in topology.links_from(way[-1]):
            if onward.target not in seen:
                seen.add(onward.target)
                waiting.append([*way, onward.target])
    return []


def _endpoints_differ(topology: Topology) -> Faults:
    taken: dict[str, str] = {}
    for path, name, port, endpoint in _endpoints(topology):
        owner = taken.setdefault(_place_of(topology, name, endpoint), f"{name} ({port})")
        if owner != f"{name} ({port})":
            yield Fault(path, f"{endpoint} is taken by {owner}", "Choose another port")


def _endpoints(topology: Topology) -> t.Iterator[tuple[Path, str, str, Endpoint]]:
    for name, node in topology.nodes.items():
        for port, endpoint in node.listen.items():
            yield ("nodes", name, "listen", port), name, port, endpoint
    for name, cache in topology.caches.items():
        yield ("status_caches", name, "listen"), name, "status cache", cache.listen


def _place_of(topology: Topology, host: str, endpoint: Endpoint) -> str:
    """Return what must be one's own: hosts may all listen on every address, and each on its loopback.

    Without networks several nodes may be on one host.
    """
    is_any = is_ip_address(endpoint.host) and int(ipaddress.ip_address(endpoint.host)) == 0
    per_host = is_any or (topology.has_networks and is_loopback(endpoint.host))
    return f"{host} {endpoint}" if per_host else str(endpoint)


def _functions_have_ports(topology: Topology) -> Faults:
    feeding = {link.source for link in topology.links if topology.feeds(link)}
    for function, port in (("registration_authority", "rest"), ("validation_authority", "status")):
        for node in topology.having(function):
            if topology.issuer_of(node.name) is not None or (
                port == "status" and node.name in feeding
            ):
                continue
            if port not in node.listen or node.address is None:
                path = ("nodes", node.name, "listen", port)
                remedy = f"Give the node an address and a {port} port"
                yield Fault(path, f"is missing on a {function.replace('_', ' ')}", remedy)


def _only_vas_are_published_to(topology: Topology) -> Faults:
    for link in topology.links:
        if link.publish and not topology.nodes[link.target].has("validation_authority"):
            path = ("links", link.index, "publish")
            yield Fault(path, f"{link.target} is no VA", "Leave it out, or name a VA")


def _everyone_has_a_ca(topology: Topology) -> Faults:
    missing = {
        "registration_authority": "no CA dials this RA, nor a proxy that it dials: nothing can be "
        "enrolled here",
        "validation_authority": "no CA publishes to this VA",
        "ra_proxy": "no CA dials this proxy, nor one nearer to a CA that dials it",
    }
    for function, message in missing.items():
        for node in topology.having(function):
            links = topology.links_to(node.name)
            if not any(topology.authorities_over(link) for link in links) and (
                node.has("validation_authority") or not ways_from(topology, node.name)
            ):
                remedy = f"Add a link from a CA to {node.name}"
                yield Fault(("nodes", node.name), message, remedy)


_NAMES = (
    _approvals_come_through_ras,
    _nodes_exist,
    _zones_exist,
    _authorities_exist,
    _authorities_of_links_exist,
    _profiles_exist,
    _names_differ,
    *CACHE_NAMES,
    *HOST_RULES,
)
_DIRECTIONS = (
    _issuers_are_no_loop,
    _one_management_ca,
    _hosts_are_authorities,
    _no_port_on_authorities,
    _authorities_are_not_dialled,
    _authorities_dial,
    _zones_allow_links,
    _links_are_no_loop,
    _endpoints_differ,
    _functions_have_ports,
    _only_vas_are_published_to,
    _everyone_has_a_ca,
    *CHAIN_RULES,
    *TENANT_RULES,
    *CACHE_RULES,
    *ADDRESS_RULES,
)
