# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The ways of a request from an RA through proxies to a CA, or from a VA through those that feed it.

An RA dials its proxy, and so does a CA; between two proxies the nearer to the CA dials. So of an
RA's link the dialled end is upstream, of every other link the dialling end. Of two VAs the one that
feeds the other dials; what the other's signer asks of its CA goes back that way.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Authority,
    Link,
    Node,
    Topology,
)

_PROTOCOLS = ("rest",)
# A way of no more nodes has nobody between its ends.
_NEIGHBOURS = 2


@dataclasses.dataclass(frozen=True)
class Way:
    """``nodes`` begins with the RA or VA and ends with a CA's node; all between pass on."""

    nodes: tuple[str, ...]
    authority: Authority


def ways_from(topology: Topology, node: str, seen: tuple[str, ...] = ()) -> list[Way]:
    """Return every way from an RA or a proxy to an issuing CA behind at least one link.

    A way that comes back to a node is none; rules refuse such links elsewhere.
    """
    found: list[Way] = []
    for link in topology.links:
        above = upstream_of(topology, link, node)
        if above is None or above in (node, *seen):
            continue
        if topology.nodes[above].has("ra_proxy"):
            found += [
                Way((node, *way.nodes), way.authority)
                for way in ways_from(topology, above, (node, *seen))
                if link.authorities is None or way.authority.name in link.authorities
            ]
        else:
            issuing = [one for one in topology.authorities_over(link) if one.kind == "issuing"]
            found += [Way((node, above), authority) for authority in issuing]
    return found


def chains(topology: Topology) -> list[Way]:
    """Return the ways of all RAs that go through a proxy."""
    return [
        way
        for node in topology.having("registration_authority")
        for way in ways_from(topology, node.name)
        if len(way.nodes) > _NEIGHBOURS
    ]


def feeding_chains(topology: Topology) -> list[Way]:
    """Return the ways of all VAs that are fed by another one and have signers."""
    return [
        way
        for node in topology.having("validation_authority")
        if "status" in node.listen
        for way in feeding_ways(topology, node.name)
        if len(way.nodes) > _NEIGHBOURS
    ]


def feeding_ways(topology: Topology, node: str, seen: tuple[str, ...] = ()) -> list[Way]:
    """Return every way from a VA to an issuing CA that is published to it."""
    found: list[Way] = []
    for link in topology.links_to(node):
        above = link.source
        if above in (node, *seen):
            continue
        issuing = [one for one in topology.authorities_over(link) if one.kind == "issuing"]
        if topology.feeds(link):
            found += [
                Way((node, *way.nodes), way.authority)
                for way in feeding_ways(topology, above, (node, *seen))
                if way.authority in issuing
            ]
        else:
            found += [Way((node, above), authority) for authority in issuing]
    return found


def content_at(topology: Topology, node: str) -> list[str]:
    """Return the kinds of content that are published to a VA if not all are, else nothing."""
    kinds: dict[str, None] = {}
    for link in topology.links_to(node):
        content = link.publish.get("content")
        if content is None and topology.feeds(link):
            content = content_at(topology, link.source)
        if not content:
            return []
        kinds |= dict.fromkeys(content)
    return list(kinds)


def upstream_of(topology: Topology, link: Link, node: str) -> str | None:
    """Return the other end of a link if it is nearer to the CA than the node."""
    if dials_a_proxy(topology, link):
        return link.target if link.source == node else None
    return link.source if link.target == node else None


def dials_a_proxy(topology: Topology, link: Link) -> bool:
    """Return whether the link is that of an RA to its proxy."""
    source = topology.nodes[link.source]
    return (
        topology.nodes[link.target].has("ra_proxy")
        and source.has("registration_authority")
        and not source.has("certification_authority")
    )


def rights_in_chains(topology: Topology, node: str) -> t.Iterator[tuple[str, list[str]]]:
    """Yield who is to be granted what on a node, for the ways that lead through it.

    Everybody on a way needs every right, on every node above. Only neighbours are linked.
    """
    for way in chains(topology):
        asking = topology.nodes[way.nodes[0]]
        yield from _rights_on(way, node, list(registration_rights(asking, [way.authority])))
    for way in feeding_chains(topology):
        yield from _rights_on(way, node, list(signer_rights([way.authority])))


def _rights_on(way: Way, node: str, asked: list[str]) -> t.Iterator[tuple[str, list[str]]]:
    if node not in way.nodes:
        return
    here = way.nodes.index(node)
    for place, peer in enumerate(way.nodes):
        linked = ["/peer/incoming"] if abs(place - here) == 1 else []
        if place < here:
            # Marks a proxy as one that asks nothing in its own name.
            relay = ["/peer/relay"] if place > 0 else []
            yield peer, [*linked, *relay, *asked]
        elif place == len(way.nodes) - 1 and place > here:
            yield peer, [*linked, "/peer/upstream", f"/ca/{way.authority.name}"]
        elif place == here + 1:
            yield peer, [*linked, "/peer/upstream", "/peer/relay"]


def signer_rights(authorities: t.Sequence[Authority]) -> t.Iterator[str]:
    """Yield what a VA needs to have its signers certified."""
    for authority in authorities:
        yield f"/ca/{authority.name}"
        yield f"/signer/{authority.name}/renew"


def registration_rights(node: Node, authorities: t.Sequence[Authority]) -> t.Iterator[str]:
    """Yield what an RA needs to ask CAs for all that requesters may."""
    yield from (f"/ra/{verb}" for verb in ("enroll", "revoke", "status", "search"))
    if node.approves:
        yield "/ra/approve"
    yield from (f"/ca/{authority.name}" for authority in authorities)
    yield from (f"/profile/{name}" for authority in authorities for name in authority.profiles)
    yield from (f"/protocol/{name}" for name in _PROTOCOLS)
