"""A taken-over RA or VA in the place of an agent that the test stopped.

The CA dials it as it dialled that agent, and the test then sends up that link whatever it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.identity import NodeIdentity
from tests.support.hostile_node import HostileNode, certified_holder

if TYPE_CHECKING:
    from node_agent.net import RawAnswer
    from tests.support.agents import Topology
    from tests.support.node_process import Agent

__all__ = ["HostilePeer"]


class HostilePeer(HostileNode):
    """``agent``'s place at its peer address."""

    def __init__(self, topology: Topology, agent: Agent) -> None:
        holder = certified_holder(topology.ca, agent.identity)
        super().__init__(holder, listen=agent.listen["peer"])
        self._ca = topology.ca.identity
        self.upstream = NodeIdentity.parse(self._ca)
        self.believe(self._ca)

    def is_linked(self, identity: str = "") -> bool:
        """Whether the CA has a link with it."""
        return super().is_linked(identity or self._ca)

    def send(self, method: str, payload: bytes, *, request_id: bytes, to: str = "") -> RawAnswer:
        """Send a request to the CA as it is."""
        return super().send(method, payload, request_id=request_id, to=to or self._ca)
