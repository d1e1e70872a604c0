# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Who may connect to whom: the rules of each host's firewall, and how to prove them from outside.

The least that works. A peer port is open to the nodes that dial it, a store's to its nodes, REST
and status ports to the networks of clients, or a status port to the caches in front of it. A CA's
host has no rule at all.
"""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Client,
    Host,
    Network,
    StatusCache,
    Store,
    Topology,
    Zone,
    is_loopback,
)

Variables = dict[str, t.Any]
_PURPOSES = {"peer": "peer port", "rest": "REST port", "status": "status port"}


def network_variables(topology: Topology, host: Host) -> Variables:
    """Return what a host is told of zones, firewall and proof."""
    variables: Variables = {
        "topology_zone": host.zone,
        "topology_zones": {
            name: {"networks": [str(one) for one in zone.networks], "dials": list(zone.dials)}
            for name, zone in topology.zones.items()
        },
        "verification_host": _verification_host(topology),
        "verification_probes": _probes(topology, host),
    }
    if topology.has_networks and host.path[0] != "clients":
        variables["firewall_rules"] = [
            {"port": port.number, "from": port.sources(), "comment": port.comment}
            for port in _ports(topology)
            if port.host.name == host.name
        ]
    return variables


def verification_client(topology: Topology) -> Client | None:
    """Return the client that plays requester and everybody, None for the controller."""
    return next(iter(topology.clients.values()), None)


def client_zones(topology: Topology, serving: str) -> list[Zone]:
    """Return the zones whose hosts may use REST and status ports of a zone.

    Those that dial its zone, apart from zones of CAs: they dial peers and have nothing to ask.
    Its own zone and a zone of CAs belong to them only if a client stands there.
    """
    with_clients = {client.zone for client in topology.clients.values()}
    with_authorities = {one.zone for one in topology.having("certification_authority")}
    return [
        zone
        for name, zone in topology.zones.items()
        if zone.may_reach(serving)
        and (name in with_clients or name not in {serving, *with_authorities})
    ]


class _Port(t.NamedTuple):
    """One open port of one host; ``hosts`` or ``zones`` may connect to it."""

    host: Host
    number: int
    purpose: str
    hosts: tuple[Host, ...]
    zones: tuple[Zone, ...]

    @property
    def comment(self) -> str:
        names = [one.name for one in self.hosts or self.zones]
        return f"{self.purpose}, for {', '.join(names) or 'nobody'}"

    def sources(self) -> list[str]:
        addresses = [str(one.ip) for one in self.hosts]
        return addresses + [str(network) for zone in self.zones for network in zone.networks]

    def lets_in(self, host: Host) -> bool | None:
        """Return whether the host may connect, None when that can't be told from here."""
        if host.name in {one.name for one in self.hosts} or host.zone in {
            zone.name for zone in self.zones
        }:
            return True
        networks: list[Network] = [network for zone in self.zones for network in zone.networks]
        address = host.ip
        if any(network.prefixlen == 0 for network in networks):
            # Everybody's firewall lets it in; whether the way there does is not ours to say.
            return None
        return any(address in network for network in networks if address is not None)


def _ports(topology: Topology) -> list[_Port]:
    hosts = {host.path: host for host in topology.hosts()}
    found: list[_Port] = []
    for node in topology.nodes.values():
        host = hosts["nodes", node.name]
        caches = topology.caches_of(node.name)
        for name, endpoint in node.listen.items():
            if name == "peer":
                dialling = [hosts["nodes", one.source] for one in topology.links_to(node.name)]
                found.append(_Port(host, endpoint.port, _PURPOSES[name], tuple(dialling), ()))
            elif name == "status" and caches:
                if not is_loopback(endpoint.host):
                    asking = tuple(_host_of(one, hosts) for one in caches if one.name != node.name)
                    found.append(_Port(host, endpoint.port, _PURPOSES[name], asking, ()))
            else:
                zones = tuple(client_zones(topology, node.zone))
                found.append(_Port(host, endpoint.port, _PURPOSES[name], (), zones))
    for cache in topology.caches.values():
        zones = tuple(client_zones(topology, cache.zone))
        found.append(_Port(_host_of(cache, hosts), cache.listen.port, "status cache", (), zones))
    return found + [
        _store_port(topology, store, hosts["stores", name], hosts)
        for name, store in topology.stores.items()
    ]


def _host_of(cache: StatusCache, hosts: dict[tuple[str, str], Host]) -> Host:
    return hosts.get(("nodes", cache.name)) or hosts["status_caches", cache.name]


def _store_port(
    topology: Topology, store: Store, host: Host, hosts: dict[tuple[str, str], Host]
) -> _Port:
    nodes = tuple(hosts["nodes", node.name] for node in topology.on_store(store.name))
    return _Port(host, store.port, "database", nodes, ())


def _verification_host(topology: Topology) -> str:
    client = verification_client(topology)
    return "localhost" if client is None else client.name


def _probes(topology: Topology, host: Host) -> list[Variables]:
    """Return what the host tries: every port that it must not reach, and a client's services."""
    if not topology.has_networks:
        return []
    ports = _ports(topology)
    found = [probe for port in ports for probe in _probe(host, port)]
    found += [
        _entry(node, number, purpose, "closed")
        for node in topology.hosts()
        if node.path[0] == "nodes" and topology.nodes[node.name].has("certification_authority")
        for number, purpose in sorted({(port.number, port.purpose) for port in ports})
        if node.name != host.name and (node.name, number) not in _numbers(ports)
    ]
    return found


def _numbers(ports: t.Iterable[_Port]) -> set[tuple[str, int]]:
    return {(port.host.name, port.number) for port in ports}


def _probe(host: Host, port: _Port) -> t.Iterator[Variables]:
    allowed = port.lets_in(host)
    if port.host.name == host.name or port.host.address is None:
        return
    if allowed is False:
        yield _entry(port.host, port.number, port.purpose, "closed")
    elif allowed and host.path[0] == "clients":
        # Links and stores are proven by using them; of clients only the first enrols.
        yield _entry(port.host, port.number, port.purpose, "open")


def _entry(host: Host, number: int, purpose: str, expect: str) -> Variables:
    return {
        "host": host.name,
        "address": host.address,
        "port": number,
        "purpose": purpose,
        "expect": expect,
    }
