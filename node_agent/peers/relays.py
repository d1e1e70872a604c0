"""Who passes our own requests on, a peer that is upstream *and* a relay here, and who may answer.

Both dial a proxy, so who dialled says nothing of which way is up. The role does: ``/peer/relay``
alone is a proxy farther from the CA, which brings requests; with ``/peer/upstream`` it is a proxy
nearer to the CA, which is given them. Without ``/ca/<name>`` neither may answer for a CA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.identity import NodeIdentity
from node_agent.policy import MemberKind, RoleSet, grants

if TYPE_CHECKING:
    from node_agent.identity import PeerIdentity
    from node_agent.peers.directory import Directory

__all__ = ["RELAY_RESOURCES", "may_answer", "relays_upstream"]

RELAY_RESOURCES: Final = ("/peer/upstream", "/peer/relay")


def may_answer(roles: RoleSet, signer: PeerIdentity, audience: str) -> bool:
    """Tell whether ``roles`` let ``signer`` speak for ``audience``, which may be itself."""
    if not roles.permits(signer, "/peer/upstream"):
        return False
    return signer.node.uri == audience or roles.permits(signer, f"/{audience}")


def relays_upstream(roles: RoleSet, directory: Directory) -> list[NodeIdentity]:
    """Return whom to hand a request that no linked peer serves: whoever is linked, or else whom a
    role names.
    """
    linked = [
        peer.node
        for peer in directory.connected_peers()
        if all(roles.permits(peer, resource) for resource in RELAY_RESOURCES)
    ]
    return linked or [
        NodeIdentity.parse(member.value)
        for role in roles.roles
        if all(grants(role.rules, resource) for resource in RELAY_RESOURCES)
        for member in sorted(role.members, key=str)
        if member.kind is MemberKind.NODE
    ]
