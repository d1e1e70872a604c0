"""One node: its parts joined, run, and told of each other's news.

A node is opened (store, keys, objects), serves until it is told to stop, and is closed in the
reverse order. What a change of objects means for the running parts is in ``follow``.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from node_agent.clock import Clock, SystemClock
from node_agent.functions.parts import Part, Parts
from node_agent.objects import PublisherSpec
from node_agent.sd_notify import keep_watchdog_fed, notify_ready, notify_stopping
from node_agent.service.administration import AdministrationParts
from node_agent.service.crl_news import CrlNews
from node_agent.service.edges import EdgeParts
from node_agent.service.foundation import open_foundation
from node_agent.service.issuing import IssuingParts
from node_agent.service.links import LinkParts
from node_agent.service.validation import ValidationParts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence

    from node_agent.config import NodeSettings
    from node_agent.functions.plan import Step
    from node_agent.identity import NodeIdentity, PeerIdentity
    from node_agent.net.backend import Network
    from node_agent.policy import RoleSet
    from node_agent.web.backends import (
        CryptoTokenStatus,
        PeerStatus,
        PingResult,
        PublisherVerification,
        RecoveryOrder,
        RecoveryReport,
        StatusReport,
    )

__all__ = ["Node"]


class Node:
    """One node. ``open`` it, ``serve`` with it, ``close`` it."""

    def __init__(
        self, settings: NodeSettings, *, clock: Clock | None = None, network: Network | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._network = network
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Open store and keys and load every object.

        Raises ConfigError, StoreError; TokenError when the passphrase isn't there or isn't right.
        """
        self._base = await open_foundation(self.settings, clock=self._clock, opened=self._opened)
        self._build()
        await self._news.load()

    async def serve(self, stop: asyncio.Event) -> None:
        """Run every part until ``stop`` is set. An unexpected failure of any part ends the node:
        whoever supervises it starts it again in a known state.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            running = [
                tasks.create_task(task, name=name) for name, task in self._standing().items()
            ]
            try:
                await self._start()
                notify_ready(f"serving as {self.settings.identity}")
                await stop.wait()
                notify_stopping()
            finally:
                await self._edges.ports.close()
                await self._issuing.publishers.close()
                await self._links.linking.close()
                await self._administration.close_log()
                for task in running:
                    task.cancel()

    async def close(self) -> None:
        """Close store, keys and workers."""
        await self._opened.aclose()

    @property
    def roles(self) -> RoleSet:
        """The role set in force."""
        return self._links.linking.roles

    def follow_rights(self) -> None:
        """Put the roles and the requesters' rules in force as the objects now say."""
        self._links.linking.replace_roles()
        self._edges.registration.configure()

    async def follow(self, steps: Sequence[Step], *, elsewhere: bool = False) -> None:
        """Make the running parts what the committed objects now say, as far as they can be: what
        can't is tried again. ``elsewhere``: another node of the store has changed them, and does
        what is to be done once.
        """
        kinds = {step.kind for step in steps}
        if "certification_authorities" in kinds:
            self._authorities_changed = True
            if not elsewhere:
                self._crls_due |= _written(steps, "certification_authorities")
        await self._parts.follow(kinds)
        self._base.changed.announce()

    async def catch_up(self) -> None:
        """Try again what couldn't be followed."""
        await self._parts.catch_up()

    def faults_of(self, objects: Iterable[tuple[str, str]]) -> Mapping[str, str]:
        """Return what isn't at work of these objects (kind, name), and why."""
        return self._parts.faults_of(objects)

    def peers(self) -> list[PeerStatus]:
        """Return every connector and every incoming peer."""
        return self._links.linking.peers()

    def known_as(self, node: NodeIdentity) -> PeerIdentity:
        """Return a node with its certificate's marks, if it is linked with this one."""
        return self._links.linking.known_as(node)

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a peer."""
        return await self._links.linking.ping(peer)

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        """Compare a publisher's peer with this node."""
        publisher = self._issuing.publishers.named(name)
        return await self._issuing.verification.verify(
            publisher, repair=repair, recompute=recompute
        )

    async def recover(self, order: RecoveryOrder, *, caller: str) -> RecoveryReport:
        """Bring a restored store up to what its peers have seen."""
        return await self._issuing.recovery.recover(order, caller=caller)

    def metrics(self) -> bytes:
        """Return the node's metrics in the text format of Prometheus."""
        metrics = self._base.metrics
        self._edges.reporter.measure(metrics)
        metrics.set_ocsp(self._validation.kept.answers)
        metrics.set_peer_crls(self._links.identities.crl_ends().items())
        return metrics.text()

    async def open_token(self, name: str) -> CryptoTokenStatus:
        """Try to open a crypto token now."""
        return await self._edges.token_watch.open(name)

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        return await self._edges.reporter.report()

    def _build(self) -> None:
        base = self._base
        self._links = LinkParts(base, on_link=self._link_changed, network=self._network)
        self._validation = ValidationParts(
            base,
            self._links,
            on_crl=lambda crl: self._news.made(crl),
            health=lambda: self._edges.reporter.health(),
            overdue_seconds=lambda: self._edges.crl_watch.overdue_seconds(),
        )
        self._news = CrlNews(
            base,
            identities=self._links.identities,
            kept=self._validation.kept,
            spawn=self._spawn,
        )
        self._issuing = IssuingParts(
            base,
            self._links,
            self._validation.keeper,
            self._validation.provenance,
            on_crl=self._news.made,
            on_status=self._validation.status_changed,
        )
        self._edges = EdgeParts(
            base,
            self._links,
            self._validation,
            self._issuing,
            crl_ends=self._news.ends,
            undone=self._undone,
        )
        self._administration = AdministrationParts(
            base, self._links, self._issuing, reporter=self._edges.reporter, runtime=self
        )
        self._follower = self._administration.follower(self._validation, self._news)
        self._parts = Parts(self._make_parts(), base.clock)
        self._authorities_changed = self._publishers_restart = False
        self._crls_due: set[str] = set()

    def _make_parts(self) -> list[Part]:
        """Return what follows objects. Who is followed by another comes before it."""
        linking, identities, edges = self._links.linking, self._links.identities, self._edges
        return [
            # First: whatever else takes its time, nobody keeps a right.
            Part("roles", frozenset({"peer_roles", "requesters"}), self._follow_roles),
            Part("crypto tokens", frozenset({"crypto_tokens"}), self._follow_tokens),
            Part("CAs", frozenset({"certification_authorities"}), self._follow_authorities),
            Part("signers", frozenset({"signers"}), self._follow_signers),
            Part(
                "authenticators",
                frozenset({"authenticators", "peer_issuers", "crypto_tokens"}),
                self._follow_identities,
                faults=lambda: identities.faults,
            ),
            Part(
                "REST port",
                frozenset({"authenticators", "requesters", "crypto_tokens"}),
                edges.follow_rest,
                faults=lambda: identities.requester_faults,
            ),
            Part("peer port", frozenset({"authenticators"}), linking.open_listener),
            Part(
                "connectors",
                frozenset({"peer_connectors", "authenticators"}),
                linking.configure,
                faults=lambda: linking.faults,
            ),
            Part(
                "publishers",
                frozenset({"publishers", "certification_authorities"}),
                self._follow_publishers,
            ),
        ]

    def _standing(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return what runs for as long as the node serves, by name."""
        issuing = self._issuing
        standing = {
            "audit-checkpoints": self._administration.checkpoints.run(),
            "crl-issuing": issuing.crls.run(),
            "crypto-tokens": self._edges.token_watch.run(),
            "parts": self._parts.run(),
            "signers": self._validation.signers.run(),
            "upstreams": self._links.upstreams.run(),
            "verification": issuing.verification.run(issuing.publishers.all),
            "watchdog": keep_watchdog_fed(self._clock),
        }
        journal = self._administration.journal
        if journal is not None:
            standing["audit-journal"] = journal.run()
        if self._base.is_shared:
            standing["store-follower"] = self._follower.run()
        return standing

    async def _start(self) -> None:
        ports = self._edges.ports
        await self._parts.follow({"signers", "authenticators", "peer_connectors", "publishers"})
        await ports.open_status(self._validation.serve_status)
        await ports.open_metrics(self.metrics)
        await ports.open_admin(self._administration.management)

    async def _follow_tokens(self) -> None:
        await self._base.follow_tokens()
        self._edges.token_watch.wake()

    async def _follow_roles(self) -> None:
        self.follow_rights()

    async def _follow_authorities(self) -> None:
        changed, self._authorities_changed = self._authorities_changed, False
        self._publishers_restart |= changed
        self._issuing.authorities.announce()
        self._issuing.crls.configure()
        self._validation.kept.reconsider()
        known = {item.name for item in self._base.objects.all("certification_authorities")}
        self._crls_due &= known
        for name in sorted(self._crls_due):
            await self._issuing.crls.make_if_due(name)
            self._crls_due.discard(name)

    async def _follow_signers(self) -> None:
        self._validation.signers.configure()

    async def _follow_identities(self) -> None:
        self._links.identities.configure(self._base.objects)

    async def _follow_publishers(self) -> None:
        specs = self._base.objects.specs("publishers", PublisherSpec)
        restart, self._publishers_restart = self._publishers_restart, False
        await self._issuing.publishers.configure(specs, self._tasks, restart=restart)

    def _undone(self) -> Iterator[str]:
        if self._follower.last_error is not None:
            yield f"shared store: {self._follower.last_error}"
        for what, cause in self._parts.faults.items():
            yield f"{what} not at work: {cause}"
        yield from self._links.identities.overdue()

    def _link_changed(self) -> None:
        self._validation.signers.wake()
        self._links.upstreams.wake()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.create_task(work, name=name)


def _written(steps: Sequence[Step], kind: str) -> set[str]:
    return {step.name for step in steps if step.kind == kind and step.after is not None}
