"""A real network that can be told to refuse or to swallow dials."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node_agent.errors import ConnectError
from node_agent.net import TlsNetwork
from tests.support.simulated_pool import NetworkState

if TYPE_CHECKING:
    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net import CallHandler, IdentityHolder, Link, NetSettings

__all__ = ["FlakyNetwork"]


class FlakyNetwork(TlsNetwork):
    """Dials for real while ``state`` is HEALTHY. ``pending`` are dials that hang."""

    def __init__(self) -> None:
        self.state = NetworkState.HEALTHY
        self.dials = 0
        self.pending = 0
        self.links: list[Link] = []

    async def dial(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        expected: NodeIdentity,
        handler: CallHandler,
        settings: NetSettings,
    ) -> Link:
        """Dial, refuse, or hang until cancelled."""
        self.dials += 1
        if self.state is NetworkState.REFUSING:
            raise ConnectError(f"{address} refuses")
        if self.state is NetworkState.SILENT:
            self.pending += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.pending -= 1
        link = await super().dial(
            address, identity=identity, expected=expected, handler=handler, settings=settings
        )
        self.links.append(link)
        return link

    def cut(self, state: NetworkState) -> None:
        """Cut every link and let dials meet ``state``."""
        self.state = state
        for link in self.links:
            link.abort()
        self.links.clear()
