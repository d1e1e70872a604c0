# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The least rights that links and chains need. On a node, a peer's role has the peer's name, and
that of an approver for all tenants ``<peer>_approvals``: no node's name has an underscore.
"""

from __future__ import annotations

import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._topology_chains import (
    dials_a_proxy,
    registration_rights,
    rights_in_chains,
    signer_rights,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    Link,
    Node,
    Topology,
)

Variables = dict[str, t.Any]


def peer_roles(topology: Topology, node: Node) -> list[Variables]:
    """Return the roles of the peers on a node, one for each."""
    granted: dict[str, list[str]] = {}
    for link in topology.links_from(node.name):
        granted.setdefault(link.target, []).extend(_dialled_rights(topology, link))
    for link in topology.links_to(node.name):
        granted.setdefault(link.source, []).extend(_dialling_rights(topology, link))
    for peer, resources in rights_in_chains(topology, node.name):
        granted.setdefault(peer, []).extend(resources)
    return [
        role
        for peer, resources in granted.items()
        for role in (_role(topology, peer, resources), *_approving_role(topology, peer, resources))
    ]


def peer_issuers(topology: Topology, node: Node) -> list[Variables]:
    """Return who vouches for the peers of other trust domains that have a role on a node."""
    tenants = {
        topology.tenant_of(("nodes", role["name"])): topology.issuer_of(role["name"])
        for role in peer_roles(topology, node)
    }
    return [
        {
            "name": tenant,
            "trust_domain": issuer.trust_domain,
            "trust_anchors": list(issuer.trust_anchors),
        }
        for tenant, issuer in tenants.items()
        if issuer is not None
    ]


def _dialled_rights(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what the dialled node may do at the node that dials it."""
    if dials_a_proxy(topology, link):
        yield from ("/peer/incoming", "/peer/upstream", "/peer/relay")
    elif topology.feeds(link):
        yield from ("/peer/incoming", *_signing(topology, link))
    else:
        yield from _downstream_rights(topology, link)


def _dialling_rights(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what the dialling node may do at the node that it dials."""
    if dials_a_proxy(topology, link):
        # What it may ask for follows from the CAs behind the proxy.
        yield "/peer/incoming"
    elif topology.nodes[link.source].has("ra_proxy"):
        yield from ("/peer/incoming", "/peer/upstream", "/peer/relay")
    elif topology.feeds(link):
        yield from _feeding_rights(topology, link)
    else:
        yield from _upstream_rights(topology, link)


def _role(topology: Topology, peer: str, resources: t.Iterable[str]) -> Variables:
    rules = [{"resource": resource} for resource in dict.fromkeys(resources)]
    role: Variables = {"name": peer, "members": [topology.identity(peer)], "rules": rules}
    if topology.nodes[peer].has("registration_authority"):
        # All RAs of a tenant are one in what they see; so are those of no tenant.
        tenant = topology.tenant_of(("nodes", peer))
        role["tenant"] = "operator" if tenant is None else f"tenant-{tenant}"
    return role


def _approving_role(
    topology: Topology, peer: str, resources: t.Iterable[str]
) -> t.Iterator[Variables]:
    """Yield the role by which the operator's approvers decide tenants' requests, too.

    It shows them what waits, and no tenant's certificates.
    """
    is_operators = topology.tenant_of(("nodes", peer)) is None
    # A proxy has the right as well, to carry what its tenants ask.
    may_approve = topology.nodes[peer].approves and "/ra/approve" in resources
    if topology.tenants and is_operators and may_approve:
        yield {
            "name": f"{peer}_approvals",
            "members": [topology.identity(peer)],
            "rules": [{"resource": "/ra/approve"}],
            "certificate_scope": "all",
        }


def _downstream_rights(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what a dialled node farther from the CA may ask of the node that dials it."""
    target = topology.nodes[link.target]
    issuing = [one for one in topology.authorities_over(link) if one.kind == "issuing"]
    yield "/peer/incoming"
    if target.has("registration_authority"):
        yield from registration_rights(target, issuing)
    if target.has("ra_proxy"):
        yield "/peer/relay"
    if target.has("validation_authority"):
        yield from _signing(topology, link)


def _signing(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what a VA may have certified, if it answers anybody."""
    if "status" in topology.nodes[link.target].listen:
        over = topology.authorities_over(link)
        yield from signer_rights([one for one in over if one.kind == "issuing"])


def _feeding_rights(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what a VA may do at one that it feeds: a CA is believed more than it is.

    Without ``/peer/publish/take_back`` it can't take a revocation back, nor remove a row.
    """
    yield "/peer/incoming"
    yield from (f"/peer/publish/{verb}" for verb in ("certificate", "status", "crl", "read"))
    if topology.tells_of_nodes(link):
        yield f"/ca/{topology.management['name']}"
    yield from (f"/ca/{authority.name}" for authority in topology.authorities_over(link))


def _upstream_rights(topology: Topology, link: Link) -> t.Iterator[str]:
    """Yield what a CA's node may do at the node that it dials."""
    yield "/peer/incoming"
    yield "/peer/upstream"
    if topology.nodes[link.target].has("validation_authority"):
        yield "/peer/publish/**"
    elif topology.nodes[link.source].has("management_ca"):
        yield "/peer/publish/crl"
        yield "/peer/publish/read"
    if topology.nodes[link.source].has("management_ca"):
        yield f"/ca/{topology.management['name']}"
    yield from (f"/ca/{authority.name}" for authority in topology.authorities_over(link))
