"""Nodes reduced to their peer layer, over real TLS links on loopback; what a handler does is the
test's.

::

    async with Meadow() as meadow:
        ca = meadow.node("ca1", {"ra1": ["/peer/incoming", "/ra/*", ...]})
        ra = meadow.node("ra1", {"ca1": ["/peer/incoming", "/peer/upstream", "/ca/*"]})
        await meadow.link(ca, ra)          # ca dials
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from node_agent.config import Address
from node_agent.errors import StoreError
from node_agent.identity import NodeIdentity
from node_agent.net import IncomingCall, Link, NetSettings, RawAnswer, TlsNetwork
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.caller import PeerCaller
from node_agent.peers.directory import Directory
from node_agent.peers.dispatcher import Dispatcher
from node_agent.peers.relay import Relay
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_roles
from node_agent.wire.settings import WireSettings
from tests.support.pki import TRUST_DOMAIN, ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from node_agent.net.backend import Listener
    from node_agent.store.records import AuditRecord

__all__ = ["Meadow", "PeerNode", "identity_of", "roles_of", "until"]


def identity_of(name: str) -> NodeIdentity:
    return NodeIdentity(TRUST_DOMAIN, name)


def roles_of(grants: Mapping[str, Sequence[str]]) -> RoleSet:
    """Return a role for each node; a resource with a leading ``!`` is denied."""
    return parse_roles(
        PeerRoleSpec(
            name=f"role-{node}",
            members=(identity_of(node).uri,),
            rules=tuple(
                AccessRule(
                    resource=resource.lstrip("!"),
                    effect="deny" if resource.startswith("!") else "allow",
                )
                for resource in resources
            ),
        )
        for node, resources in grants.items()
    )


async def until(condition: Callable[[], object], *, seconds: float = 5) -> None:
    """Return once ``condition`` holds. Raises TimeoutError when it doesn't in ``seconds``."""
    async with asyncio.timeout(seconds):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0.001)


class PeerNode:
    """One node's identity, directory, dispatcher, caller, and its audit log as a list."""

    def __init__(
        self, name: str, authority: ThrowawayAuthority, grants: Mapping[str, Sequence[str]]
    ) -> None:
        self.node = identity_of(name)
        self.holder = authority.holder(name)
        self.certificates = PeerCertificates(self.holder)
        self.directory = Directory(clock=self.holder.clock)
        self.audited: list[AuditRecord] = []
        self.audit_fails = False
        self.held: set[str] = set()
        self.dispatcher = Dispatcher(
            identity=self.holder,
            certificates=self.certificates,
            directory=self.directory,
            audit=self._audit,
            roles=roles_of(grants),
            holds_audience=lambda audience: audience in self.held,
        )
        self.caller = PeerCaller(
            identity=self.holder,
            certificates=self.certificates,
            directory=self.directory,
            roles=lambda: self.dispatcher.roles,
        )

    async def handle(self, call: IncomingCall) -> RawAnswer:
        """Serve a call with the dispatcher's handler of the moment, which a test may replace."""
        return await self.dispatcher.handle(call)

    def grant(self, grants: Mapping[str, Sequence[str]]) -> None:
        """Replace all roles."""
        self.dispatcher.replace_roles(roles_of(grants))

    def relay_to(self, *nodes: PeerNode) -> None:
        """Become a proxy for every audience."""
        targets = [node.node for node in nodes]
        self.dispatcher.relay = Relay(
            directory=self.directory,
            route=lambda audience: targets,
            certificates=self.certificates,
            roles=lambda: self.dispatcher.roles,
            clock=self.holder.clock,
        )

    @property
    def denials(self) -> list[AuditRecord]:
        return [record for record in self.audited if not record.allowed]

    async def _audit(self, record: AuditRecord) -> None:
        await asyncio.sleep(0)
        if self.audit_fails:
            raise StoreError("the disk is full")
        self.audited.append(record)


class Meadow:
    """A Management CA and the nodes that trust it; ends what it opened."""

    def __init__(self) -> None:
        self.authority = ThrowawayAuthority()
        self.network = TlsNetwork()
        self._listeners: dict[str, Listener] = {}
        self._links: list[Link] = []

    async def __aenter__(self) -> Meadow:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for listener in self._listeners.values():
            await listener.close()
        for link in self._links:
            link.abort()
            await link.wait_closed()

    def node(self, name: str, grants: Mapping[str, Sequence[str]]) -> PeerNode:
        return PeerNode(name, self.authority, grants)

    async def address_of(self, node: PeerNode, *, credits: int = 50) -> Address:
        """Return where ``node`` listens; opens the port the first time."""
        listener = self._listeners.get(node.node.name)
        if listener is None:

            def on_link(link: Link) -> None:
                self._links.append(link)
                node.directory.add(link)

            listener = self._listeners[node.node.name] = await self.network.listen(
                Address("127.0.0.1", 0),
                identity=node.holder,
                on_link=on_link,
                handler=node.handle,
                settings=NetSettings(wire=WireSettings(credits=credits)),
            )
        return listener.address

    async def dial(self, dialler: PeerNode, other: PeerNode, *, credits: int = 50) -> Link:
        """Return a new link that is in nobody's directory at the dialling end yet."""
        link = await self.network.dial(
            await self.address_of(other),
            identity=dialler.holder,
            expected=other.node,
            handler=dialler.handle,
            settings=NetSettings(wire=WireSettings(credits=credits)),
        )
        self._links.append(link)
        return link

    async def link(self, dialler: PeerNode, other: PeerNode, *, credits: int = 50) -> Link:
        """Return a new link that both directories know; ``credits`` are what the dialler grants."""
        known = len(other.directory.links(dialler.node))
        link = await self.dial(dialler, other, credits=credits)
        dialler.directory.add(link)
        await until(
            lambda: len(other.directory.links(dialler.node)) > known or link.state.value != "open"
        )
        return link
