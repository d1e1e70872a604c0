# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can't be among proxies and those who go through them, and among VAs that feed each other."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import Fault, Path
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chains import (
    chains,
    content_at,
    dials_a_proxy,
    feeding_chains,
    ways_from,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import Topology

Faults = t.Iterator[Fault]
# The agent refuses a request that passed more.
MOST_PROXIES = 10
# The agent refuses what has passed more logs, the CA's own being the first.
MOST_LOGS = 10


def _proxies_are_nothing_else(topology: Topology) -> Faults:
    """A proxy has the rights of all its tenants, and must not be able to use them itself."""
    for node in topology.having("ra_proxy"):
        if set(node.functions) != {"ra_proxy"}:
            remedy = "Give the other functions a node of their own"
            path = ("nodes", node.name, "functions")
            yield Fault(path, "a proxy has no other function", remedy)


def _chains_are_short(topology: Topology) -> Faults:
    told: set[str] = set()
    for way in chains(topology):
        proxies = len(way.nodes) - 2
        if proxies > MOST_PROXIES and way.nodes[0] not in told:
            told.add(way.nodes[0])
            message = f"its requests pass {proxies} proxies, at most {MOST_PROXIES} may be"
            yield Fault(("nodes", way.nodes[0]), message, "Dial one that is nearer to the CA")


def _feeds_are_short(topology: Topology) -> Faults:
    told: set[str] = set()
    for way in feeding_chains(topology):
        passed = len(way.nodes) - 1
        if passed > MOST_LOGS and way.nodes[0] not in told:
            told.add(way.nodes[0])
            message = f"what it is told has passed {passed} nodes, at most {MOST_LOGS} may be"
            yield Fault(("nodes", way.nodes[0]), message, "Feed it from nearer to the CA")


def _feeds_have_what_they_send(topology: Topology) -> Faults:
    for link in topology.links:
        if not topology.feeds(link):
            continue
        everything = dataclasses.replace(link, authorities=None)
        names = [one.name for one in topology.authorities_over(everything)]
        for index, name in enumerate(link.authorities or ()):
            if name not in names:
                path: Path = ("links", link.index, "authorities", index)
                remedy = f"Published to it are {', '.join(names) or 'none'}"
                yield Fault(path, f"{name} is not published to {link.source}", remedy)
        sent = content_at(topology, link.source)
        for kind in link.publish.get("content") or ():
            if sent and kind not in sent:
                path = ("links", link.index, "publish", "content")
                message = f"{link.source} is sent no {kind} itself"
                yield Fault(path, message, f"It is sent {', '.join(sent)}")


def _authorities_are_behind_proxies(topology: Topology) -> Faults:
    for link in topology.links:
        source = topology.nodes[link.source]
        if source.has("certification_authority") or topology.feeds(link):
            continue
        above = link.target if dials_a_proxy(topology, link) else link.source
        reached = {way.authority.name for way in ways_from(topology, above)}
        for index, name in enumerate(link.authorities or ()):
            if name not in reached:
                path = ("links", link.index, "authorities", index)
                yield Fault(path, f"{name} is not behind {above}", _known(reached))


def _known(reached: set[str]) -> str:
    return f"Behind it are {', '.join(sorted(reached)) or 'none'}"


CHAIN_RULES = (
    _proxies_are_nothing_else,
    _chains_are_short,
    _authorities_are_behind_proxies,
    _feeds_are_short,
    _feeds_have_what_they_send,
)
