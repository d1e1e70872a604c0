"""The node's links: one pool for each connector, the listener, and who is connected.

A node has no links before its authenticator is certified. Until then calls are Unavailable and
connectors wait; ``configure`` brings all of it up. After a renewal it replaces the links that this
node has dialled, each new one before the old one is drained; those that it accepted show the old
certificate until their diallers replace them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from node_agent.config import parse_address
from node_agent.errors import ConfigError, NotFound, Unavailable
from node_agent.identity import NodeIdentity, PeerIdentity
from node_agent.net import NetSettings, TlsNetwork
from node_agent.objects import PeerConnectorSpec, PeerRoleSpec, RequesterSpec
from node_agent.peers.breaches import BreachLog
from node_agent.peers.caller import PeerCaller
from node_agent.peers.directory import Directory
from node_agent.peers.dispatcher import Context, Dispatcher
from node_agent.peers.handshakes import AuditedNetwork, HandshakeLog
from node_agent.peers.relay import Relay
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_roles
from node_agent.pool import ConnectorPool, PoolSettings
from node_agent.web.backends import PeerStatus, PingResult

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.config import NodeSettings
    from node_agent.functions.identities import Identities
    from node_agent.functions.node_objects import NodeObjects
    from node_agent.net.backend import Listener, Network
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder
    from node_agent.peers.operations import Operation
    from node_agent.store.records import AuditRecord

__all__ = ["Linking"]

log = structlog.get_logger(__name__)

_PING_SECONDS = 5.0
_DRAIN_SECONDS = 5.0

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)
Handler = Callable[[Context, Any], Awaitable[msgspec.Struct]]


class Linking:
    """Pools, listener, directory, dispatcher and caller of one node."""

    def __init__(
        self,
        *,
        settings: NodeSettings,
        objects: NodeObjects,
        identities: Identities,
        audit: Callable[[AuditRecord], Awaitable[None]],
        on_link: Callable[[], None],
        route: Callable[[str], Sequence[NodeIdentity]],
        clock: Clock,
        network: Network | None = None,
    ) -> None:
        self._settings = settings
        self._objects = objects
        self._identities = identities
        self._audit = audit
        self._route = route
        self._clock = clock
        self._handshakes = HandshakeLog(audit, clock)
        self._network: Network = AuditedNetwork(network or TlsNetwork(), self._handshakes)
        self._net_settings = NetSettings()
        self._handlers: list[tuple[Operation[Any, Any], Handler]] = []
        self._pools: dict[str, ConnectorPool] = {}
        # By connector, our certificate as its links were last told to show it.
        self._shown: dict[str, bytes] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None
        self._dispatcher: Dispatcher | None = None
        self._caller: PeerCaller | None = None
        self.faults: dict[str, str] = {}
        """Why connectors, by ``kind.name``, couldn't be put to work."""
        self.roles = self._parse_roles()
        self.directory = Directory(clock=clock)
        self.directory.observe(lambda peer, is_connected: on_link())
        self.directory.observe_waiting(self._wake_pools)
        self._breaches = BreachLog(audit, clock, home=settings.identity.trust_domain)
        self.directory.on_breach = self._breaches.note

    def register(
        self,
        operation: Operation[RequestT, AnswerT],
        handler: Callable[[Context, RequestT], Awaitable[AnswerT]],
    ) -> None:
        """Serve ``operation`` with ``handler`` once links come up."""
        self._handlers.append((operation, handler))

    async def call(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        *,
        peers: Sequence[NodeIdentity],
        timeout_seconds: float,
        request_id: bytes | None = None,
        requester: str = "",
        body: Callable[[], AsyncIterable[bytes]] | None = None,
    ) -> AnswerT:
        """Ask one of ``peers``; see ``PeerCaller.call``. Raises Unavailable before activation."""
        if self._caller is None:
            raise Unavailable(
                "this node has no certified authenticator yet", retry_after_seconds=10
            )
        return await self._caller.call(
            operation,
            request,
            peers=peers,
            timeout_seconds=timeout_seconds,
            request_id=request_id,
            requester=requester,
            body=body,
        )

    async def configure(self) -> None:
        """Bring up, change and take down pools as the objects now say."""
        self.faults = {}
        if self._is_active():
            self._configure_pools()

    async def open_listener(self) -> None:
        """Open the peer port once there is an identity for it. Raises NetworkError."""
        address = self._settings.peer_address
        if address is None or self._listener is not None or not self._is_active():
            return
        identity = self._identities.first
        assert identity is not None
        assert self._dispatcher is not None
        self._listener = await self._network.listen(
            address,
            identity=identity,
            on_link=self._admit,
            handler=self._dispatcher.handle,
            settings=self._net_settings,
        )
        log.info("peer port open", address=str(self._listener.address))

    def replace_roles(self) -> None:
        """Put the roles as they now are in force, for links that are up too."""
        self.roles = self._parse_roles()
        if self._dispatcher is not None:
            self._dispatcher.replace_roles(self.roles)

    def peers(self) -> list[PeerStatus]:
        """Return every connector, and every peer that dialled us."""
        outgoing = [self._connector_status(spec) for spec in self._connectors()]
        incoming = [
            PeerStatus(
                peer=peer.peer,
                direction="in",
                connector=None,
                address="",
                state="up" if peer.state == "up" else "down",
                connections=peer.connections,
                min=0,
                max=0,
                in_flight=peer.in_flight,
                queued=peer.queued,
                round_trip_ms=peer.round_trip_ms,
                roles=self._roles_of(NodeIdentity.parse(peer.peer)),
                last_error=None,
                last_seen=peer.last_seen,
            )
            for peer in self.directory.snapshot()
        ]
        return outgoing + incoming

    def known_as(self, node: NodeIdentity) -> PeerIdentity:
        """Return ``node`` as its links show it; without a link, by its name alone."""
        live = next((peer for peer in self.directory.connected_peers() if peer.node == node), None)
        return live or PeerIdentity.named(node)

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a connector's name, node name or node URI.

        Raises NotFound for an unknown peer, Unavailable for one without a live link.
        """
        node = self._named(peer)
        links = self.directory.links(node)
        if not links:
            raise Unavailable(f"no link to {node} is up", retry_after_seconds=2)
        seconds = await asyncio.gather(*(link.ping(_PING_SECONDS) for link in links))
        return PingResult(round_trip_ms=tuple(value * 1000 for value in seconds))

    async def close(self) -> None:
        """Drain every link and close the listener."""
        if self._listener is not None:
            await self._listener.close()
        for pool in self._pools.values():
            self._close_soon(pool)
        self._pools.clear()
        await asyncio.gather(*self._closing)
        await asyncio.gather(*(link.drain(_DRAIN_SECONDS) for link in self.directory.links()))
        await self._breaches.close()
        await self._handshakes.close()

    def _is_active(self) -> bool:
        identity = self._identities.first
        if identity is not None and self._dispatcher is None:
            self._activate(identity)
        return identity is not None

    def _activate(self, identity: IdentityHolder) -> None:
        certificates = PeerCertificates(identity)
        self._dispatcher = Dispatcher(
            identity=identity,
            certificates=certificates,
            directory=self.directory,
            audit=self._audit,
            roles=self.roles,
            holds_audience=self._holds_audience,
        )
        self._dispatcher.relay = Relay(
            directory=self.directory,
            route=self._route,
            certificates=certificates,
            roles=lambda: self.roles,
            clock=self._clock,
        )
        for operation, handler in self._handlers:
            self._dispatcher.register(operation, handler)
        self._caller = PeerCaller(
            identity=identity,
            certificates=certificates,
            directory=self.directory,
            roles=lambda: self.roles,
        )

    def _admit(self, link: Link) -> None:
        self.directory.add(link)

    def _wake_pools(self) -> None:
        for pool in self._pools.values():
            pool.wake()

    def _close_soon(self, pool: ConnectorPool) -> None:
        """Drain a pool beside everything else: an operator's change doesn't wait for it."""
        task = asyncio.create_task(pool.close(), name=f"close pool {pool.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _configure_pools(self) -> None:
        wanted = {spec.name: spec for spec in self._connectors()}
        for name in set(self._pools) - set(wanted):
            self._close_soon(self._pools.pop(name))
            self._shown.pop(name, None)
        for spec in wanted.values():
            identity = self._identities.holder(spec.authenticator)
            try:
                if identity is not None:
                    self._configure_pool(spec, identity)
            except ConfigError as error:
                self.faults[f"peer_connectors.{spec.name}"] = str(error)

    def _configure_pool(self, spec: PeerConnectorSpec, identity: IdentityHolder) -> None:
        address, peer = parse_address(spec.address), NodeIdentity.parse(spec.peer)
        settings = PoolSettings.from_spec(spec)
        running = self._pools.get(spec.name)
        shown = identity.current.chain_der[0]
        was_shown, self._shown[spec.name] = self._shown.get(spec.name), shown
        if running is not None:
            running.update(settings, address=address, peer=peer, identity=identity)
            if shown != was_shown:
                running.expire_all()
            return
        assert self._dispatcher is not None

        def waiting() -> int:
            # Asked of a pool that is being closed, too, when it is no longer among ours.
            return self.directory.waiting_for(pool.dialing.peer)

        pool = self._pools[spec.name] = ConnectorPool(
            name=spec.name,
            address=address,
            peer=peer,
            settings=settings,
            network=self._network,
            identity=identity,
            handler=self._dispatcher.handle,
            on_link=self.directory.add,
            clock=self._clock,
            waiting=waiting,
            net_settings=self._net_settings,
        )
        pool.start()

    def _connector_status(self, spec: PeerConnectorSpec) -> PeerStatus:
        roles = self._roles_of(NodeIdentity.parse(spec.peer))
        pool = self._pools.get(spec.name)
        if pool is None:
            return PeerStatus(
                peer=spec.peer,
                direction="out",
                connector=spec.name,
                address=spec.address,
                state="connecting" if spec.enabled else "disabled",
                connections=0,
                min=spec.min_connections,
                max=spec.max_connections,
                in_flight=0,
                queued=0,
                round_trip_ms=None,
                roles=roles,
                last_error=self.faults.get(f"peer_connectors.{spec.name}")
                or f"the authenticator {spec.authenticator} isn't certified",
                last_seen=None,
            )
        now = pool.snapshot()
        return PeerStatus(
            peer=now.peer,
            direction="out",
            connector=now.name,
            address=now.address,
            state=now.state,
            connections=now.connections,
            min=now.min,
            max=now.max,
            in_flight=now.in_flight,
            queued=now.queued,
            round_trip_ms=now.round_trip_ms,
            roles=roles,
            last_error=now.last_error,
            last_seen=now.last_seen,
        )

    def _connectors(self) -> list[PeerConnectorSpec]:
        return list(self._objects.specs("peer_connectors", PeerConnectorSpec))

    def _holds_audience(self, audience: str) -> bool:
        kind, _, name = audience.partition("/")
        return kind == "ca" and self._objects.find("certification_authorities", name) is not None

    def _parse_roles(self) -> RoleSet:
        return parse_roles(
            self._objects.specs("peer_roles", PeerRoleSpec),
            self._objects.specs("requesters", RequesterSpec),
        )

    def _roles_of(self, node: NodeIdentity) -> tuple[str, ...]:
        return tuple(sorted(role.name for role in self.roles.roles_of(self.known_as(node))))

    def _named(self, text: str) -> NodeIdentity:
        """Return whom ``text`` means; a bare node name is one of this node's trust domain."""
        home = f"spiffe://{self._settings.identity.trust_domain}/node/{text}"
        for spec in self._connectors():
            if text in (spec.name, spec.peer) or spec.peer == home:
                return NodeIdentity.parse(spec.peer)
        for peer in self.directory.snapshot():
            if peer.peer in (text, home):
                return NodeIdentity.parse(peer.peer)
        raise NotFound(f"no connector and no connected peer is called {text!r}")
