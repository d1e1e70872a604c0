# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What can't be among caches and the VAs behind them, and where a cache asks."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import Fault
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Endpoint,
    Node,
    StatusCache,
    Topology,
    is_ip_address,
    is_loopback,
)

Faults = t.Iterator[Fault]
Variables = dict[str, t.Any]


def cache_variables(topology: Topology, cache: StatusCache) -> Variables:
    """Return what the role status_cache is told on the cache's host."""
    return {
        "status_cache_listen": [str(cache.listen)],
        "status_cache_upstreams": [
            _upstream(cache, topology.nodes[name]) for name in cache.validators
        ],
    }


def _upstream(cache: StatusCache, node: Node) -> str:
    endpoint = node.listen["status"]
    if cache.name == node.name and not _is_any(endpoint.host):
        return str(endpoint)
    return str(Endpoint(str(node.address), endpoint.port))


def _is_any(host: str) -> bool:
    return is_ip_address(host) and int(ipaddress.ip_address(host)) == 0


def _vas_of_caches_exist(topology: Topology) -> Faults:
    known = ", ".join(node.name for node in topology.having("validation_authority")) or "none"
    for cache in topology.caches.values():
        path = ("status_caches", cache.name)
        if not cache.validators:
            message = "there is no VA behind it"
            yield Fault((*path, "validation_authorities"), message, f"Known are {known}")
        if cache.name in topology.nodes and cache.name not in cache.validators:
            message = f"{cache.name} is a node, and none of the VAs behind it"
            yield Fault(path, message, "Give the cache a host of its own, or that of its VA")
        for index, name in enumerate(cache.validators):
            where = (*path, "validation_authorities", index)
            node = topology.nodes.get(name)
            if node is None or not node.has("validation_authority") or "status" not in node.listen:
                message = f"{name} is no VA with a status port"
                yield Fault(where, message, f"Known are {known}")
            elif name in cache.validators[:index]:
                yield Fault(where, f"{name} is written twice", "Keep one of them")


def _caches_reach_their_vas(topology: Topology) -> Faults:
    for cache in topology.caches.values():
        for index, name in enumerate(cache.validators):
            node = topology.nodes[name]
            where = ("status_caches", cache.name, "validation_authorities", index)
            if name == cache.name:
                continue
            if is_loopback(node.listen["status"].host) and topology.has_networks:
                message = (
                    f"{name} listens on {node.listen['status'].host}, which nobody else reaches"
                )
                yield Fault(where, message, f"Write a port alone at nodes.{name}.listen.status")
            elif not topology.zones[cache.zone].may_reach(node.zone):
                message = f"zone {cache.zone} must not dial {node.zone}"
                remedy = f"Add {node.zone} to zones.{cache.zone}.dials, or move the cache"
                yield Fault(where, message, remedy)


def _vas_of_a_cache_answer_alike(topology: Topology) -> Faults:
    """One VA is asked for everything, as long as it answers at all."""
    for cache in topology.caches.values():
        first = _answered(topology, cache.validators[0])
        for index, name in enumerate(cache.validators):
            if _answered(topology, name) != first:
                where = ("status_caches", cache.name, "validation_authorities", index)
                message = f"{name} answers for other CAs than {cache.validators[0]}"
                yield Fault(where, message, "Give them links for the same CAs, or two caches")


def _answered(topology: Topology, node: str) -> list[str]:
    return [
        name
        for name, authority in topology.authorities.items()
        if any(one.name == node for one in topology.validators(authority))
    ]


def _caches_have_the_url(topology: Topology) -> Faults:
    for cache in topology.caches.values():
        for name in cache.validators:
            if topology.nodes[name].status_url is not None:
                message = f"clients ask the cache {cache.name}"
                remedy = f"Write it at status_caches.{cache.name}.url"
                yield Fault(("nodes", name, "status_url"), message, remedy)


CACHE_NAMES = (_vas_of_caches_exist,)
CACHE_RULES = (_caches_reach_their_vas, _vas_of_a_cache_answer_alike, _caches_have_the_url)
