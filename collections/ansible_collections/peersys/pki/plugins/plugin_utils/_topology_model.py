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
)
PORTS = ("peer", "rest", "status")


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Node:
    """One host with one agent. ``address`` is how others reach it."""

    name: str
    zone: str
    address: str | None
    functions: tuple[str, ...]
    listen: dict[str, Endpoint]
    server_names: tuple[str, ...]
    status_url: str | None
    variables: dict[str, t.Any]

    def has(self, function: str) -> bool:
        """Return whether the node has the function."""
        return function in self.functions

    def url(self, port: str, scheme: str, default_port: int) -> str | None:
        """Return the address of one of its HTTP ports, None when that is closed."""
        endpoint = self.listen.get(port)
        if endpoint is None or self.address is None:
            return None
        host = f"[{self.address}]" if ":" in self.address else self.address
        suffix = "" if endpoint.port == default_port else f":{endpoint.port}"
        return f"{scheme}://{host}{suffix}"

    @property
    def validation_url(self) -> str | None:
        """Where clients ask for status: as written, else made from address and port."""
        return self.status_url or self.url("status", "http", 80)


@dataclasses.dataclass(frozen=True)
class Authority:
    """A CA. ``fields`` go into its specification as they are."""

    name: str
    node: str
    kind: str
    issuer: str | None
    activation: str
    profiles: tuple[str, ...]
    fields: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Link:
    """``source`` dials ``target``. ``authorities`` None: all of the source's."""

    index: int
    source: str
    target: str
    authorities: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Topology:
    """Everything that the document says, with the shapes checked and names not yet."""

    trust_domain: str
    zones: dict[str, tuple[str, ...]]
    nodes: dict[str, Node]
    management: dict[str, t.Any]
    authorities: dict[str, Authority]
    profiles: dict[str, dict[str, t.Any]]
    links: tuple[Link, ...]

    def identity(self, node: str) -> str:
        """Return the node's SPIFFE-form identity."""
        return f"spiffe://{self.trust_domain}/node/{node}"

    def having(self, function: str) -> list[Node]:
        """Return the nodes with a function."""
        return [node for node in self.nodes.values() if node.has(function)]

    def authorities_over(self, link: Link) -> list[Authority]:
        """Return the CAs that the link's source hosts and its target deals with."""
        return [
            authority
            for authority in self.authorities.values()
            if authority.node == link.source
            and (link.authorities is None or authority.name in link.authorities)
        ]

    def links_from(self, node: str) -> list[Link]:
        """Return the links that the node dials."""
        return [link for link in self.links if link.source == node]

    def links_to(self, node: str) -> list[Link]:
        """Return the links that the node accepts."""
        return [link for link in self.links if link.target == node]


def is_ip_address(text: str) -> bool:
    """Return whether the text is an IP address and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
