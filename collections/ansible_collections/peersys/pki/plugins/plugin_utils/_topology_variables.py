# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""What follows from a topology: the roles' variables of each host."""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._topology_cache_rules import (
    cache_variables,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chains import (
    content_at,
    ways_from,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Authority,
    Host,
    Link,
    Node,
    Topology,
    is_ip_address,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_networks import (
    network_variables,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_rights import (
    peer_issuers,
    peer_roles,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_stores import (
    secrets_of,
    store_url,
    store_variables,
)

Variables = dict[str, t.Any]
# What the role status_cache promises: nginx counts whole seconds.
_CACHED_SECONDS = 2.0


def host_variables(topology: Topology, host: Host) -> Variables:
    """Return every variable of a host."""
    kind, name = host.path
    derived = network_variables(topology, host)
    own: Variables
    if kind == "nodes":
        derived |= _node(topology, topology.nodes[name])
        own = topology.nodes[name].variables
    elif kind == "stores":
        derived |= store_variables(topology, topology.stores[name])
        own = topology.stores[name].variables
    elif kind == "status_caches":
        owner = {"name": name, "trust_domain": topology.trust_domain}
        derived |= {"firewall_owner": owner, "peersys_secrets": []}
        own = topology.caches[name].variables
    else:
        own = topology.clients[name].variables
    if host.name in topology.caches:
        derived |= cache_variables(topology, topology.caches[host.name])
    if host.address is not None:
        derived["ansible_host"] = host.address
    return derived | own


def _node(topology: Topology, node: Node) -> Variables:
    variables: Variables = {
        "node_name": node.name,
        "node_trust_domain": topology.trust_domain,
        "node_listen": {port: str(endpoint) for port, endpoint in node.listen.items()},
        "authenticator_identity": topology.identity(node.name),
        "authenticator_authenticators": _authenticators(node),
        "authenticator_management_host": topology.having("management_ca")[0].name,
        "authenticator_management_authority": topology.management["name"],
        "verification_peers": sorted(_peers(topology, node)),
        "peersys_secrets": secrets_of(topology, node),
    }
    if node.store is not None:
        store = topology.stores[node.store]
        variables |= {"node_store_url": store_url(store), "node_store_host": store.host}
    for function, derive in _BY_FUNCTION.items():
        if node.has(function):
            variables |= derive(topology, node)
    return variables


def _authenticators(node: Node) -> list[Variables]:
    found: list[Variables] = [{"name": "peer"}]
    if "rest" in node.listen:
        names = list(dict.fromkeys([node.address or node.name, *node.server_names]))
        found.append(
            {
                "name": "rest",
                "purpose": "server",
                "dns_names": [name for name in names if not is_ip_address(name)],
                "ip_addresses": [name for name in names if is_ip_address(name)],
            }
        )
    return found


def _peers(topology: Topology, node: Node) -> set[str]:
    """Return whom the node is linked with, apart from those whose being up isn't ours to see to."""
    dialled = {link.target for link in topology.links_from(node.name)}
    dialling = {link.source for link in topology.links_to(node.name)}
    return {name for name in dialled | dialling if topology.issuer_of(name) is None}


def _management_ca(topology: Topology, node: Node) -> Variables:
    return {"management_ca_authority": topology.management}


def _certification_authority(topology: Topology, node: Node) -> Variables:
    hosted = [
        one for one in topology.authorities.values() if topology.hosts_authority(node.name, one)
    ]
    named = {profile for authority in hosted for profile in authority.profiles}
    offline = [one.name for one in hosted if one.activation == "on_demand"]
    return {
        "certification_authority_crypto_tokens": [
            {"name": name, "activation": "on_demand"} for name in offline
        ],
        "certification_authority_profiles": [
            profile for name, profile in topology.profiles.items() if name in named
        ],
        "certification_authority_authorities": [_authority(topology, one) for one in hosted],
        "certification_authority_peer_issuers": peer_issuers(topology, node),
        "certification_authority_peer_roles": peer_roles(topology, node),
        "certification_authority_peer_connectors": _connectors(topology, node),
        "certification_authority_publishers": _publishers(topology, node),
    }


def _authority(topology: Topology, authority: Authority) -> Variables:
    urls = [service.url for service in topology.status_services(authority)]
    derived: Variables = {
        "crl_urls": [f"{url}/crl/{authority.name}.crl" for url in urls],
        "issuer_urls": [f"{url}/ca/{authority.name}.cer" for url in urls],
    }
    if authority.kind == "issuing":
        derived["ocsp_urls"] = [f"{url}/ocsp" for url in urls]
    if authority.activation == "on_demand":
        derived["crypto_token"] = authority.name
    return derived | authority.fields


def _connectors(topology: Topology, node: Node) -> list[Variables]:
    return [_connector(topology, link) for link in topology.links_from(node.name)]


def _connector(topology: Topology, link: Link) -> Variables:
    target = topology.nodes[link.target]
    port = target.listen["peer"].port
    host = f"[{target.address}]" if ":" in str(target.address) else target.address
    identity = topology.identity(link.target)
    return {"name": link.target, "address": f"{host}:{port}", "peer": identity}


def _publishers(topology: Topology, node: Node) -> list[Variables]:
    links = topology.links_from(node.name)
    return [publisher for link in links for publisher in _published(topology, link)]


def _published(topology: Topology, link: Link) -> list[Variables]:
    """A VA gets all of its CAs, and every peer the CRL that tells which authenticators ended."""
    peer = topology.identity(link.target)
    found: list[Variables] = []
    if topology.nodes[link.target].has("validation_authority"):
        names = [authority.name for authority in topology.authorities_over(link)]
        options = {key: value for key, value in link.publish.items() if key != "unknown_serial"}
        if topology.feeds(link) and "content" not in options:
            # No more than the VA is sent itself.
            options |= (
                {"content": content} if (content := content_at(topology, link.source)) else {}
            )
        found.append({"name": link.target, "peer": peer, "authorities": names, **options})
    if topology.tells_of_nodes(link):
        name = topology.management["name"]
        revocations = {"name": f"{name}-{link.target}", "peer": peer}
        found.append({**revocations, "authorities": [name], "content": ["crl"]})
    return found


def _registration_authority(topology: Topology, node: Node) -> Variables:
    offered = [one for one in _dealt_with(topology, node) if _unattended(topology, one)]
    return {
        "registration_authority_url": node.url("rest", "https", 443),
        "registration_authority_peer_roles": peer_roles(topology, node),
        "registration_authority_peer_connectors": _connectors(topology, node),
        "verification_trials": [_trial(topology, authority) for authority in offered],
    }


def _dealt_with(topology: Topology, node: Node) -> list[Authority]:
    """Return the CAs of all links to the node, then those behind its proxies, each once."""
    over = [one for link in topology.links_to(node.name) for one in topology.authorities_over(link)]
    if node.has("registration_authority"):
        over += [way.authority for way in ways_from(topology, node.name)]
    return list({authority.name: authority for authority in over}.values())


def _trial(topology: Topology, authority: Authority) -> Variables:
    chain, profiles = _chain(topology, authority), _unattended(topology, authority)
    return {
        "authority": authority.name,
        "profile": next(filter(_takes_dns_names(topology), profiles), profiles[0]),
        "root": chain[-1].name,
        "authority_host": authority.node,
        "validation_authorities": [
            {
                "name": service.name,
                "url": service.url,
                "crls": [one.name for one in chain if service in topology.status_services(one)],
                **({"cached_seconds": _CACHED_SECONDS} if service.is_cache else {}),
            }
            for service in topology.status_services(authority)
        ],
    }


def _unattended(topology: Topology, authority: Authority) -> list[str]:
    """Return the profiles that nobody has to approve: a trial doesn't wait for people."""
    return [name for name in authority.profiles if not topology.profiles[name].get("approvals")]


def _chain(topology: Topology, authority: Authority) -> list[Authority]:
    chain = [authority]
    while chain[-1].issuer is not None:
        chain.append(topology.authorities[chain[-1].issuer])
    return chain


def _takes_dns_names(topology: Topology) -> t.Callable[[str], bool]:
    return lambda name: any(
        rule.get("kind") == "dns" for rule in topology.profiles[name].get("san", ())
    )


def _validation_authority(topology: Topology, node: Node) -> Variables:
    answered = [
        one
        for one in _dealt_with(topology, node)
        if one.kind == "issuing" and "status" in node.listen
    ]
    in_front = [cache.url for cache in topology.caches_of(node.name)]
    return {
        "validation_authority_url": in_front[0] if in_front else node.validation_url,
        "validation_authority_peer_roles": peer_roles(topology, node),
        "validation_authority_signers": [
            {"name": one.name, "authority": one.name, **_silence(topology, node.name, one)}
            for one in answered
        ],
        "validation_authority_peer_connectors": _connectors(topology, node),
        "validation_authority_publishers": _publishers(topology, node),
    }


def _silence(topology: Topology, node: str, authority: Authority) -> Variables:
    """Return what a serial means of which a VA was told nothing, if that was chosen.

    Where nothing was, a VA goes by those that feed it: what they aren't told, it isn't either.
    """
    links = [one for one in topology.links_to(node) if authority in topology.authorities_over(one)]
    for link in links:
        if "unknown_serial" in link.publish:
            return {"unknown_serial": link.publish["unknown_serial"]}
    feeding = [link.source for link in links if topology.feeds(link)]
    return next(filter(None, (_silence(topology, one, authority) for one in feeding)), {})


def _ra_proxy(topology: Topology, node: Node) -> Variables:
    return {
        "ra_proxy_peer_issuers": peer_issuers(topology, node),
        "ra_proxy_peer_roles": peer_roles(topology, node),
        "ra_proxy_peer_connectors": _connectors(topology, node),
    }


_BY_FUNCTION: dict[str, t.Callable[[Topology, Node], Variables]] = {
    "management_ca": _management_ca,
    "certification_authority": _certification_authority,
    "registration_authority": _registration_authority,
    "validation_authority": _validation_authority,
    "ra_proxy": _ra_proxy,
}
