"""Which peers an RA or VA may send requests to, and what each of them offers.

A peer is upstream for a CA because a role says so (``/peer/upstream`` and ``/ca/<name>``), never
because it claims it. What it offers (its catalogue) only narrows the choice among several.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import NodeAgentError, RemoteError, Unavailable
from node_agent.functions.containment import Containment
from node_agent.functions.signal import ChangeSignal
from node_agent.identity import NodeIdentity
from node_agent.peers.operations import (
    CATALOGUE,
    AuthorityDescription,
    CatalogueAnswer,
    CatalogueRequest,
)
from node_agent.peers.relays import RELAY_RESOURCES, relays_upstream
from node_agent.policy import MemberKind, Role, RoleSet, grants
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.peer_calls import PeerCalls
    from node_agent.peers.directory import Directory

__all__ = ["Upstreams"]

log = structlog.get_logger(__name__)

_CATALOGUE_SECONDS = 10.0
# Of 2 MiB each, or a few hundred CAs: a catalogue is held in memory.
_MOST_PAGES = 100
# New CAs and profiles at the CA show in an RA's catalogue after at most this long.
_REFRESH_SECONDS = 30.0
# Requesters may ask for any name; only so many are remembered.
_MOST_CHOSEN = 1000
# Requesters choose the CA names that they ask for; what is remembered of them is bounded.
_MOST_REMEMBERED = 1024


class Upstreams:
    """Choose peers for a request. ``run()`` keeps the catalogues fresh."""

    def __init__(
        self,
        *,
        roles: Callable[[], RoleSet],
        directory: Directory,
        caller: PeerCalls,
        clock: Clock,
    ) -> None:
        self._roles = roles
        self._directory = directory
        self._caller = caller
        self._clock = clock
        self._offers: dict[NodeIdentity, tuple[AuthorityDescription, ...]] = {}
        self._asked_at: dict[NodeIdentity, float] = {}
        self._wake = ChangeSignal()
        self._contained = Containment("catalogue", clock=clock)
        # Choosing walks all roles; it is asked for each request and changes with links, offers and
        # roles only.
        self._chosen: dict[str, list[NodeIdentity]] = {}
        self._chosen_under: RoleSet | None = None
        self._named_in: RoleSet | None = None
        self._named: dict[tuple[str, ...], tuple[NodeIdentity, ...]] = {}

    def serving(self, authority: str) -> list[NodeIdentity]:
        """Return the peers that may be asked about ``authority``, connected or not.

        Raises Unavailable when no role names any.
        """
        roles = self._roles()
        if self._chosen_under is not roles:
            self._chosen.clear()
            self._chosen_under = roles
        chosen = self._chosen.get(authority)
        if chosen is None:
            chosen = self._choose(authority)
            if len(self._chosen) < _MOST_CHOSEN:
                self._chosen[authority] = chosen
        return chosen

    def _choose(self, authority: str) -> list[NodeIdentity]:
        allowed = self._granted("/peer/upstream", f"/ca/{authority}")
        if not allowed:
            raise Unavailable(
                f"no peer may serve the CA {authority!r} here: no role grants one "
                f"/peer/upstream and /ca/{authority}",
                retry_after_seconds=30,
            )
        offering = [peer for peer in allowed if self._may_offer(peer, authority)]
        return offering or allowed

    def route(self, audience: str) -> list[NodeIdentity]:
        """Return whom to pass a request on to: who serves ``audience``, or a relay nearer to it.

        ``audience`` is ``ca/<name>`` or a node's URI. Raises Unavailable when no role names any.
        """
        relays = relays_upstream(self._roles(), self._directory)
        try:
            peers = self._serving(audience)
        except Unavailable:
            if not relays:
                raise
            return relays
        if any(map(self._directory.is_connected, peers)):
            return peers
        return list(dict.fromkeys([*peers, *relays]))

    def _serving(self, audience: str) -> list[NodeIdentity]:
        if audience.startswith("ca/"):
            return self.serving(audience.removeprefix("ca/"))
        return [peer for peer in self.all() if peer.uri == audience]

    def all(self) -> list[NodeIdentity]:
        """Return every peer that is upstream for something."""
        return self._granted("/peer/upstream")

    async def catalogue(self) -> tuple[AuthorityDescription, ...]:
        """Return what the upstream peers in reach offer, one description per CA.

        Raises Unavailable when none of them is in reach.
        """
        reachable = self._reachable()
        if not reachable:
            raise Unavailable("no upstream peer is connected", retry_after_seconds=2)
        await asyncio.gather(*(self._ask(peer) for peer in reachable if peer not in self._offers))
        merged = {
            offer.name: offer
            for peer in reachable
            for offer in self._offers.get(peer, ())
            if peer in self._granted("/peer/upstream", f"/ca/{offer.name}")
        }
        return tuple(merged[name] for name in sorted(merged))

    async def refresh(self) -> None:
        """Ask every upstream peer in reach whose catalogue is old."""
        reachable = self._reachable()
        for gone in set(self._offers) - set(reachable):
            del self._offers[gone]
            self._asked_at.pop(gone, None)
        due = self._clock.monotonic() - _REFRESH_SECONDS
        await asyncio.gather(
            *(self._ask(peer) for peer in reachable if self._asked_at.get(peer, due) <= due)
        )

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            seen = self._wake.count
            try:
                with self._contained.around(""):
                    await self.refresh()
            except (NodeAgentError, TimeoutError) as error:
                log.warning("catalogues not refreshed", reason=str(error))
            await self._wake.wait(seen, _REFRESH_SECONDS)

    def wake(self) -> None:
        """Look again now: a link has come up or gone."""
        self._chosen.clear()
        self._wake.announce()

    def _may_offer(self, peer: NodeIdentity, authority: str) -> bool:
        offers = self._offers.get(peer)
        return offers is None or any(offer.name == authority for offer in offers)

    def _reachable(self) -> list[NodeIdentity]:
        """Return the upstream peers that are linked, or are behind a relay that is."""
        live = {peer.node for peer in self._directory.connected_peers()}
        relays = set(self._granted(*RELAY_RESOURCES))
        has_relay = not live.isdisjoint(relays)
        return [peer for peer in self.all() if peer in live or (has_relay and peer not in relays)]

    def _granted(self, *resources: str) -> list[NodeIdentity]:
        roles = self._roles()
        by_role = self._granted_by_role(roles, resources)
        live = [
            peer.node
            for peer in self._directory.connected_peers()
            if all(roles.permits(peer, resource) for resource in resources)
        ]
        return list(dict.fromkeys([*live, *by_role]))

    def _granted_by_role(
        self, roles: RoleSet, resources: tuple[str, ...]
    ) -> Sequence[NodeIdentity]:
        """Return the nodes that a role names for all ``resources``.

        This is asked for each request, and going through all rules takes longer than signing it.
        A role set never changes, so its answers are kept as long as it is in force.
        """
        if self._named_in is not roles or len(self._named) >= _MOST_REMEMBERED:
            self._named_in, self._named = roles, {}
        named = self._named.get(resources)
        if named is None:
            named = self._named[resources] = tuple(
                node
                for role in roles.roles
                if all(grants(role.rules, resource) for resource in resources)
                for node in _nodes_of(role)
            )
        return named

    async def _ask(self, peer: NodeIdentity) -> None:
        self._asked_at[peer] = self._clock.monotonic()
        try:
            with self._contained.around(peer.uri):
                offers = await self._offers_of(peer)
        except (NodeAgentError, TimeoutError) as error:
            log.info("catalogue not received", peer=peer.uri, reason=str(error))
            return
        self._offers[peer] = offers
        self._chosen.clear()

    async def _offers_of(self, peer: NodeIdentity) -> tuple[AuthorityDescription, ...]:
        """Return the whole catalogue of a peer. Raises RemoteError for one without end."""
        offers: list[AuthorityDescription] = []
        after: str | None = None
        for _ in range(_MOST_PAGES):
            answer: CatalogueAnswer = await self._caller.call(
                CATALOGUE,
                CatalogueRequest(after=after),
                peers=[peer],
                timeout_seconds=_CATALOGUE_SECONDS,
            )
            offers += answer.authorities
            if answer.after is None:
                return tuple(offers)
            if after is not None and answer.after <= after:
                break
            after = answer.after
        raise RemoteError(
            f"the catalogue of {peer.uri} has no end", status=Status.INTERNAL, problem="bad-answer"
        )


def _nodes_of(role: Role) -> Iterable[NodeIdentity]:
    nodes: Sequence[NodeIdentity] = [
        NodeIdentity.parse(member.value)
        for member in role.members
        if member.kind is MemberKind.NODE
    ]
    return sorted(nodes)
