"""What a lab is: zones with networks, who dials whom, and hosts with addresses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from tools.test_hosts.errors import LabError
from tools.test_hosts.recipe import RELEASE

# Linux allows 15 characters.
_MAX_INTERFACE_NAME = 15


@dataclass(frozen=True, slots=True)
class Zone:
    """A network segment; ``dials`` names the zones to which connections may be opened."""

    name: str
    networks: tuple[IPv4Network, ...]
    dials: tuple[str, ...] = ()

    @property
    def interface(self) -> str:
        """Return the name of the zone's bridge, and of the router's interface in it."""
        return f"z-{self.name}"[:_MAX_INTERFACE_NAME]


@dataclass(frozen=True, slots=True)
class Host:
    """One machine with one address in one zone, and the Debian release on its disk."""

    name: str
    zone: str
    address: IPv4Address
    release: str = RELEASE

    def __str__(self) -> str:
        return f"{self.address} in {self.zone} with {self.release}"


@dataclass(frozen=True, slots=True)
class Lab:
    """Zones and hosts, in the order of their names. The constructor refuses what can't be."""

    zones: tuple[Zone, ...]
    hosts: tuple[Host, ...]

    def __post_init__(self) -> None:
        if not self.hosts:
            raise LabError("the inventory has no host with the variable topology_zone")
        if len({zone.interface for zone in self.zones}) < len(self.zones):
            raise LabError("two zones agree in the first 13 characters of their names")
        names = {zone.name for zone in self.zones}
        for zone in self.zones:
            if unknown := set(zone.dials) - names:
                raise LabError(f"zone {zone.name} dials {min(unknown)}, which is no zone")
        addresses: dict[IPv4Address, str] = {}
        for host in self.hosts:
            self.network_of(host)
            if (other := addresses.setdefault(host.address, host.name)) != host.name:
                raise LabError(f"{host.name} and {other} both have the address {host.address}")

    def zone(self, name: str) -> Zone:
        """Return the zone of that name."""
        for zone in self.zones:
            if zone.name == name:
                return zone
        raise LabError(f"there is no zone {name}; zones: {', '.join(z.name for z in self.zones)}")

    def host(self, name: str) -> Host:
        """Return the host of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"there is no host {name}; hosts: {', '.join(h.name for h in self.hosts)}")

    def network_of(self, host: Host) -> IPv4Network:
        """Return the network in which ``host`` has its address."""
        for network in self.zone(host.zone).networks:
            if host.address in network:
                if host.address in (controller_address(network), router_address(network)):
                    raise LabError(f"{host.name}: {host.address} belongs to the lab itself")
                return network
        raise LabError(f"{host.name}: {host.address} is in no network of the zone {host.zone}")

    def merged(self, other: Lab) -> Lab:
        """Return both as one lab. Raises LabError where they contradict each other.

        A zone may dial whatever one of the two says: the hosts' own firewalls hold more closely.
        """
        zones = {zone.name: zone for zone in self.zones}
        hosts = {host.name: host for host in self.hosts}
        for zone in other.zones:
            known = zones.get(zone.name, zone)
            if known.networks != zone.networks:
                raise LabError(f"two descriptions of the zone {zone.name} differ")
            dials = tuple(dict.fromkeys((*known.dials, *zone.dials)))
            zones[zone.name] = replace(zone, dials=dials)
        for host in other.hosts:
            if hosts.setdefault(host.name, host) != host:
                raise LabError(
                    f"two descriptions of the host {host.name} differ: {hosts[host.name]}, {host}"
                )
        return Lab(
            tuple(zones[name] for name in sorted(zones)),
            tuple(hosts[name] for name in sorted(hosts)),
        )

    @property
    def releases(self) -> list[str]:
        """The Debian releases of the hosts, each once."""
        return sorted({host.release for host in self.hosts})

    def with_releases(self, release: str, others: dict[str, str]) -> Lab:
        """Return the lab with ``release`` on every host but ``others``, which have their own."""
        for name in others:
            self.host(name)
        hosts = (replace(host, release=others.get(host.name, release)) for host in self.hosts)
        return replace(self, hosts=tuple(hosts))

    def to_json(self) -> str:
        """Return the lab as text for ``from_json``."""
        zones = {
            zone.name: {"networks": [str(net) for net in zone.networks], "dials": list(zone.dials)}
            for zone in self.zones
        }
        hosts = {
            host.name: {
                "zone": host.zone,
                "address": str(host.address),
                "release": host.release,
            }
            for host in self.hosts
        }
        return json.dumps({"zones": zones, "hosts": hosts}, indent=1) + "\n"


def lab_from_json(text: str) -> Lab:
    """Return the lab that ``Lab.to_json`` wrote."""
    read = json.loads(text)
    return Lab(
        zones_of(read["zones"]),
        tuple(
            Host(name, host["zone"], IPv4Address(host["address"]), host["release"])
            for name, host in read["hosts"].items()
        ),
    )


def zones_of(described: dict[str, dict[str, Any]]) -> tuple[Zone, ...]:
    """Return zones from ``{name: {networks: [...], dials: [...]}}``."""
    try:
        return tuple(
            Zone(
                name,
                tuple(IPv4Network(network) for network in zone.get("networks", ())),
                tuple(zone.get("dials", ())),
            )
            for name, zone in sorted(described.items())
        )
    except ValueError as error:
        raise LabError(f"the lab lays out IPv4 networks, and {error}") from None


def controller_address(network: IPv4Network) -> IPv4Address:
    """Return the address that this machine, as the controller, has in ``network``."""
    return network[1]


def router_address(network: IPv4Network) -> IPv4Address:
    """Return the gateway's address in ``network``."""
    return network[-2]
