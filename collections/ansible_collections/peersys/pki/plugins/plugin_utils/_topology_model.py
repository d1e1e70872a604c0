# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""A topology as values: what the document says, before anything is derived from it."""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

FUNCTIONS = (
    "management_ca",
    "certification_authority",
    "registration_authority",
    "validation_authority",
    "ra_proxy",
)
PORTS = ("peer", "rest", "status")
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Zone:
    """A security zone: which others its hosts may connect to, and which addresses it has.

    ``dials`` has those too that say so of themselves by ``dialled_by``.
    """

    name: str
    dials: tuple[str, ...]
    dialled_by: tuple[str, ...]
    networks: tuple[Network, ...]

    def may_reach(self, zone: str) -> bool:
        """Return whether hosts of this zone may connect to hosts of the other."""
        return zone == self.name or zone in self.dials

    def holds(self, address: Address) -> int:
        """Return the prefix length of the narrowest network with the address, -1 without one."""
        return max((one.prefixlen for one in self.networks if address in one), default=-1)


@dataclasses.dataclass(frozen=True)
class Store:
    """A PostgreSQL database that nodes keep their objects in; ``host`` is its inventory name."""

    name: str
    host: str
    zone: str
    address: str
    port: int
    database: str
    variables: dict[str, t.Any]

    @property
    def group(self) -> str:
        """The inventory group of its host and its nodes."""
        return f"store_{self.name.replace('-', '_')}"


@dataclasses.dataclass(frozen=True)
class StatusCache:
    """A cache that clients ask instead of VAs. ``name`` is its host's, which may be one of them."""

    name: str
    zone: str
    address: str
    listen: Endpoint
    validators: tuple[str, ...]
    written_url: str | None
    variables: dict[str, t.Any]

    @property
    def url(self) -> str:
        """Where clients ask: as written, else made from address and port."""
        return self.written_url or http_url("http", self.address, self.listen.port, 80)


@dataclasses.dataclass(frozen=True)
class StatusService:
    """Where clients ask about a CA: a VA, or a cache in front of some."""

    name: str
    url: str
    is_cache: bool


@dataclasses.dataclass(frozen=True)
class Client:
    """A host that runs no agent: it plays requesters and everybody who asks for status."""

    name: str
    zone: str
    address: str
    variables: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Host:
    """What nodes, caches, stores' hosts and clients have in common, declared at ``path``."""

    name: str
    zone: str
    address: str | None
    path: tuple[str, str]

    @property
    def ip(self) -> Address | None:
        """The address as a number, None for a name or nothing."""
        if self.address is None or not is_ip_address(self.address):
            return None
        return ipaddress.ip_address(self.address)


@dataclasses.dataclass(frozen=True)
class Node:
    """One host with one agent. ``address`` is how others reach it."""

    name: str
    zone: str
    address: str | None
    functions: tuple[str, ...]
    approves: bool
    listen: dict[str, Endpoint]
    server_names: tuple[str, ...]
    status_url: str | None
    store: str | None
    variables: dict[str, t.Any]
    # What it is called in its own trust domain.
    called: str

    def has(self, function: str) -> bool:
        """Return whether the node has the function."""
        return function in self.functions

    def url(self, port: str, scheme: str, default_port: int) -> str | None:
        """Return the address of one of its HTTP ports, None when that is closed."""
        endpoint = self.listen.get(port)
        if endpoint is None or self.address is None:
            return None
        return http_url(scheme, self.address, endpoint.port, default_port)

    @property
    def validation_url(self) -> str | None:
        """Where its status port is: as written, else made from address and port."""
        return self.status_url or self.url("status", "http", 80)


@dataclasses.dataclass(frozen=True)
class Authority:
    """A CA. ``fields`` go into its specification as they are.

    ``node`` hosts it, and so does every node on the same store: they share its objects.
    """

    name: str
    node: str
    kind: str
    issuer: str | None
    activation: str
    profiles: tuple[str, ...]
    fields: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Issuer:
    """Who vouches for a tenant's own trust domain: PEM certificates of its Management CA."""

    trust_domain: str
    trust_anchors: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Link:
    """``source`` dials ``target``. ``authorities`` None: all of the source's. ``publish``: options
    of what goes to a VA.
    """

    index: int
    source: str
    target: str
    authorities: tuple[str, ...] | None
    publish: dict[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Everything that the document says, with the shapes checked and names not yet."""

    trust_domain: str
    zones: dict[str, Zone]
    nodes: dict[str, Node]
    stores: dict[str, Store]
    caches: dict[str, StatusCache]
    clients: dict[str, Client]
    management: dict[str, t.Any]
    authorities: dict[str, Authority]
    profiles: dict[str, dict[str, t.Any]]
    links: tuple[Link, ...]
    # Who brought what: (section, name) or ("links", index) -> tenant.
    tenants: dict[tuple[str | int, ...], str]
    # Tenant -> who certifies its nodes, if that isn't the topology's own Management CA.
    issuers: dict[str, Issuer]

    def tenant_of(self, path: tuple[str | int, ...]) -> str | None:
        """Return the tenant that brought a part of the topology, None for what is everybody's."""
        return self.tenants.get(path[:2])

    def identity(self, node: str) -> str:
        """Return the node's SPIFFE-form identity."""
        issuer = self.issuer_of(node)
        trust_domain = self.trust_domain if issuer is None else issuer.trust_domain
        return f"spiffe://{trust_domain}/node/{self.nodes[node].called}"

    def issuer_of(self, node: str) -> Issuer | None:
        """Return who certifies the node if its tenant does.

        Such a node is the tenant's to run: others know it, and no play comes to its host.
        """
        tenant = self.tenant_of(("nodes", node))
        return None if tenant is None else self.issuers.get(tenant)

    def having(self, function: str) -> list[Node]:
        """Return the nodes with a function."""
        return [node for node in self.nodes.values() if node.has(function)]

    def inventory_hosts(self) -> list[Host]:
        """Return the hosts that Ansible comes to: all but those that a tenant runs by itself."""
        return [
            host
            for host in self.hosts()
            if host.path[0] != "nodes" or self.issuer_of(host.name) is None
        ]

    def hosts(self) -> list[Host]:
        """Return every host: nodes, stores' hosts, caches on hosts of their own, clients."""
        return [
            *(
                Host(one.name, one.zone, one.address, ("nodes", one.name))
                for one in self.nodes.values()
            ),
            *(
                Host(one.host, one.zone, one.address, ("stores", one.name))
                for one in self.stores.values()
            ),
            *(
                Host(one.name, one.zone, one.address, ("status_caches", one.name))
                for one in self.caches.values()
                if one.name not in self.nodes
            ),
            *(
                Host(one.name, one.zone, one.address, ("clients", one.name))
                for one in self.clients.values()
            ),
        ]

    @property
    def has_networks(self) -> bool:
        """Whether zones have addresses, without which there are no firewalls."""
        return any(zone.networks for zone in self.zones.values())

    def on_store(self, store: str | None) -> list[Node]:
        """Return the nodes that keep their objects in a store."""
        return [node for node in self.nodes.values() if store is not None and node.store == store]

    def sharing(self, node: str) -> list[str]:
        """Return the nodes with the same objects as this one, which comes first."""
        together = self.on_store(self.nodes[node].store)
        return [node, *(one.name for one in together if one.name != node)]

    def hosts_authority(self, node: str, authority: Authority) -> bool:
        """Return whether the node hosts the CA."""
        return node in self.sharing(authority.node)

    def authorities_over(self, link: Link, seen: tuple[str, ...] = ()) -> list[Authority]:
        """Return the CAs that the link's target deals with, of those that its source hosts.

        Of a VA that feeds another one they are those that are published to it.
        """
        told = self._told_of(link.source, seen) if self.feeds(link) else set()
        return [
            authority
            for authority in self.authorities.values()
            if (self.hosts_authority(link.source, authority) or authority.name in told)
            and (link.authorities is None or authority.name in link.authorities)
        ]

    def _told_of(self, node: str, seen: tuple[str, ...]) -> set[str]:
        """Return the CAs that are published to a VA. What comes round in a loop is told once."""
        links = [] if node in seen else self.links_to(node)
        return {one.name for link in links for one in self.authorities_over(link, (*seen, node))}

    def feeds(self, link: Link) -> bool:
        """Return whether the link is that of a VA to a VA which it publishes to."""
        source, target = self.nodes[link.source], self.nodes[link.target]
        return (
            source.has("validation_authority")
            and target.has("validation_authority")
            and not source.has("certification_authority")
        )

    def tells_of_nodes(self, link: Link) -> bool:
        """Return whether the CRL of the Management CA goes over the link."""
        source = self.nodes[link.source]
        return source.has("management_ca") or (
            self.feeds(link)
            and any(self.tells_of_nodes(above) for above in self.links_to(link.source))
        )

    def validators(self, authority: Authority) -> list[Node]:
        """Return the VAs that answer for a CA, each once."""
        nodes = [
            self.nodes[link.target]
            for link in self.links
            if authority in self.authorities_over(link)
        ]
        return [
            node
            for name, node in {node.name: node for node in nodes}.items()
            if node.has("validation_authority") and "status" in node.listen
        ]

    def caches_of(self, node: str) -> list[StatusCache]:
        """Return the caches in front of a VA."""
        return [cache for cache in self.caches.values() if node in cache.validators]

    def status_services(self, authority: Authority) -> list[StatusService]:
        """Return whom clients ask about a CA: its VAs, or the caches that are in front of them."""
        found: dict[str, StatusService] = {}
        for node in self.validators(authority):
            caches = self.caches_of(node.name)
            for cache in caches:
                found.setdefault(cache.url, StatusService(cache.name, cache.url, is_cache=True))
            if not caches and node.validation_url is not None:
                service = StatusService(node.name, node.validation_url, is_cache=False)
                found.setdefault(service.url, service)
        return list(found.values())

    def links_from(self, node: str) -> list[Link]:
        """Return the links that the node dials."""
        return [link for link in self.links if link.source == node]

    def links_to(self, node: str) -> list[Link]:
        """Return the links that the node accepts."""
        return [link for link in self.links if link.target == node]


def http_url(scheme: str, address: str, port: int, default_port: int) -> str:
    """Return the address of a port that speaks HTTP."""
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}" + ("" if port == default_port else f":{port}")


def tenant_group(tenant: str) -> str:
    """Return the inventory group of a tenant's nodes."""
    return f"tenant_{tenant.replace('-', '_')}"


def is_ip_address(text: str) -> bool:
    """Return whether the text is an IP address and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """Return whether only the host itself can reach the address."""
    return is_ip_address(text) and ipaddress.ip_address(text).is_loopback
