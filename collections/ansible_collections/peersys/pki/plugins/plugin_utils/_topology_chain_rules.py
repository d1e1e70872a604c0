# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can't be among proxies and those who go through them."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import Fault
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chains import (
    chains,
    dials_a_proxy,
    ways_from,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import Topology

Faults = t.Iterator[Fault]
# The agent refuses a request that passed more.
MOST_PROXIES = 10


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


def _authorities_are_behind_proxies(topology: Topology) -> Faults:
    for link in topology.links:
        source = topology.nodes[link.source]
        if source.has("certification_authority"):
            continue
        above = link.target if dials_a_proxy(topology, link) else link.source
        reached = {way.authority.name for way in ways_from(topology, above)}
        for index, name in enumerate(link.authorities or ()):
            if name not in reached:
                path = ("links", link.index, "authorities", index)
                yield Fault(path, f"{name} is not behind {above}", _known(reached))


def _known(reached: set[str]) -> str:
    return f"Behind it are {', '.join(sorted(reached)) or 'none'}"


CHAIN_RULES = (_proxies_are_nothing_else, _chains_are_short, _authorities_are_behind_proxies)
