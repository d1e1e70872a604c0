"""The parts that speak to peers: the node's identities, its links, and the CAs above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.functions.identities import Identities
from node_agent.functions.linking import Linking
from node_agent.functions.upstreams import Upstreams

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.net.backend import Network
    from node_agent.service.foundation import Foundation

__all__ = ["LinkParts"]


class LinkParts:
    """``on_link`` is called whenever a peer comes or goes."""

    def __init__(
        self, base: Foundation, *, on_link: Callable[[], None], network: Network | None
    ) -> None:
        self.identities = Identities(base.settings.identity, base.tokens, base.clock)
        self.linking = Linking(
            settings=base.settings,
            objects=base.objects,
            identities=self.identities,
            audit=base.audit,
            on_link=on_link,
            route=lambda audience: self.upstreams.route(audience),
            clock=base.clock,
            network=network,
        )
        self.upstreams = Upstreams(
            roles=lambda: self.linking.roles,
            directory=self.linking.directory,
            caller=self.linking,
            clock=base.clock,
        )
