"""The composition root: the only file that builds a node of all its parts.

A node is opened (store, keys, objects), serves until it is told to stop, and is closed in the
reverse order. What a change of objects means for the running parts is in ``follow``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
import uvloop

from node_agent.clock import Clock, SystemClock
from node_agent.errors import NodeAgentError
from node_agent.functions import known_authorities
from node_agent.functions.audit_checkpoints import AuditCheckpoints
from node_agent.functions.authorities import Authorities
from node_agent.functions.authority import AuthorityService
from node_agent.functions.certification import Certification
from node_agent.functions.compared import ComparedStore
from node_agent.functions.counting import counted
from node_agent.functions.creation import Creation
from node_agent.functions.crl_issuing import CrlIssuing
from node_agent.functions.following import StoreFollower
from node_agent.functions.identities import Identities
from node_agent.functions.kept_state import KeptState
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.linking import Linking
from node_agent.functions.management import Management
from node_agent.functions.node_objects import NodeObjects
from node_agent.functions.object_views import ObjectViews
from node_agent.functions.ports import Ports
from node_agent.functions.publishers import Publishers
from node_agent.functions.publishing import Publisher
from node_agent.functions.publishing_turn import SharedTurn
from node_agent.functions.range_digests import LeafKeeper
from node_agent.functions.receiving import SHARED_LOG, Applied, PublicationReceiver
from node_agent.functions.refreshing import ObjectRefresh
from node_agent.functions.registration import Registration
from node_agent.functions.responder import Responder
from node_agent.functions.signal import ChangeSignal
from node_agent.functions.signers import Signers
from node_agent.functions.status_report import StatusReporter
from node_agent.functions.tokens import Tokens, read_passphrase, read_secret
from node_agent.functions.upstreams import Upstreams
from node_agent.functions.verification import Verification
from node_agent.log import configure_logging
from node_agent.metrics import Metrics
from node_agent.objects import CryptoTokenSpec, PublisherSpec, SignerSpec
from node_agent.peers.operations import (
    CATALOGUE,
    CERTIFY_SIGNER,
    ENROLL,
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_REPAIR,
    REVOKE,
    SEARCH,
    STATUS,
)
from node_agent.pki.signing import SigningPool
from node_agent.sd_notify import keep_watchdog_fed, notify_ready, notify_stopping
from node_agent.store import Ownership, is_sqlite, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.config import NodeSettings
    from node_agent.functions.plan import Step
    from node_agent.net.backend import Network
    from node_agent.policy import RoleSet
    from node_agent.store import Store
    from node_agent.store.records import AuditRecord, CrlRecord
    from node_agent.web.backends import PeerStatus, PingResult, PublisherVerification, StatusReport

__all__ = ["Node", "run", "serve"]

log = structlog.get_logger(__name__)


# What a node has for itself also where it shares its store; everything else is common.
_OWN_KINDS = frozenset({"authenticators", "peer_connectors", "signers"})


class Node:
    """One node. ``open`` it, ``serve`` with it, ``close`` it."""

    def __init__(
        self, settings: NodeSettings, *, clock: Clock | None = None, network: Network | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._network = network
        self._opened = AsyncExitStack()
        self._changed = ChangeSignal()
        self._known = KnownAuthorities()
        self._metrics = Metrics()

    async def open(self) -> None:
        """Open store and keys and load every object.

        Raises ConfigError, StoreError; TokenError when the passphrase isn't there or isn't right.
        """
        _make_directories(self.settings)
        passphrase = read_passphrase(self.settings.passphrase_path)
        shared_path = self.settings.shared_passphrase_path
        shared_passphrase = None if shared_path is None else read_passphrase(shared_path)
        self._store = await self._opened.enter_async_context(self._make_store())
        self._store.observe_commits(self._metrics.observer())
        self._reader = await self._opened.enter_async_context(self._store.reader())
        if self._is_shared:
            await self._store.join(shares_passphrase=shared_passphrase is not None)
        self._heads = await self._store.heads()
        records = await self._store.objects()
        self._objects = NodeObjects(records)
        self._tokens = Tokens(
            passphrase,
            await self._store.keys(),
            node=self.settings.identity.name,
            shared_passphrase=shared_passphrase,
        )
        self._tokens.configure(self._objects.specs("crypto_tokens", CryptoTokenSpec))
        await asyncio.to_thread(self._tokens.verify)
        for record in records:
            if record.kind == known_authorities.KIND:
                self._known.add(known_authorities.from_record(record))
        self._pool = await self._opened.enter_async_context(SigningPool(self.settings.workers))
        self._build()
        await self._load_crls()

    async def serve(self, stop: asyncio.Event) -> None:
        """Run every part until ``stop`` is set. An unexpected failure of any part ends the node:
        whoever supervises it starts it again in a known state.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            running = [
                tasks.create_task(self._checkpoints.run(), name="audit-checkpoints"),
                tasks.create_task(self._crls.run(), name="crl-issuing"),
                tasks.create_task(self._signers.run(), name="signers"),
                tasks.create_task(self._upstreams.run(), name="upstreams"),
                tasks.create_task(
                    self._verification.run(self._publishers.all), name="verification"
                ),
                tasks.create_task(keep_watchdog_fed(self._clock), name="watchdog"),
            ]
            if self._is_shared:
                running.append(tasks.create_task(self._follower.run(), name="store-follower"))
            try:
                await self._start()
                notify_ready(f"serving as {self.settings.identity}")
                await stop.wait()
                notify_stopping()
            finally:
                await self._ports.close()
                await self._publishers.close()
                await self._linking.close()
                await self._checkpoints.write()
                for task in running:
                    task.cancel()

    async def close(self) -> None:
        """Close store, keys and workers."""
        await self._opened.aclose()

    @property
    def roles(self) -> RoleSet:
        """The role set in force."""
        return self._linking.roles

    async def follow(self, steps: Sequence[Step], *, elsewhere: bool = False) -> None:
        """Make the running parts what the committed objects now say. ``elsewhere``: another node of
        the store has changed them, and does what is to be done once.
        """
        kinds = {step.kind for step in steps}
        if "crypto_tokens" in kinds:
            self._tokens.configure(self._objects.specs("crypto_tokens", CryptoTokenSpec))
        if kinds & {"peer_roles", "requesters"}:
            self._linking.replace_roles()
            self._registration.configure()
        if "certification_authorities" in kinds:
            await self._follow_authorities(() if elsewhere else steps)
        if kinds & {"authenticators", "requesters", "crypto_tokens"}:
            await self._follow_identities()
        if kinds & {"peer_connectors", "authenticators"}:
            await self._linking.configure()
        if kinds & {"publishers", "certification_authorities"}:
            await self._follow_publishers(restart="certification_authorities" in kinds)
        if "signers" in kinds:
            self._signers.configure()
        self._changed.announce()

    def peers(self) -> list[PeerStatus]:
        """Return every connector and every incoming peer."""
        return self._linking.peers()

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a peer."""
        return await self._linking.ping(peer)

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        """Compare a publisher's peer with this node."""
        publisher = self._publishers.named(name)
        return await self._verification.verify(publisher, repair=repair, recompute=recompute)

    def metrics(self) -> bytes:
        """Return the node's metrics in the text format of Prometheus."""
        self._reporter.measure(self._metrics)
        self._metrics.set_ocsp(self._responder.answers)
        return self._metrics.text()

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        return await self._reporter.report()

    @property
    def _is_shared(self) -> bool:
        """Whether other nodes may use the same store."""
        return not is_sqlite(self.settings.store_url)

    def _make_store(self) -> Store:
        path = self.settings.store_password_path
        password = (
            None if path is None else lambda: read_secret(path, what="store password").decode()
        )
        return open_store(
            self.settings.store_url,
            clock=self._clock,
            owner=Ownership(node=self.settings.identity.name, own_kinds=_OWN_KINDS),
            password=password,
        )

    def _build(self) -> None:
        self._authorities = Authorities(
            objects=self._objects, tokens=self._tokens, known=self._known, pool=self._pool
        )
        self._authorities.announce()
        self._identities = Identities(self.settings.identity, self._tokens, self._clock)
        self._linking = Linking(
            settings=self.settings,
            objects=self._objects,
            identities=self._identities,
            audit=self._audit,
            on_link=self._link_changed,
            route=lambda audience: self._upstreams.route(audience),
            clock=self._clock,
            network=self._network,
        )
        self._upstreams = Upstreams(
            roles=lambda: self._linking.roles,
            directory=self._linking.directory,
            caller=self._linking,
            clock=self._clock,
        )
        self._build_authority()
        self._build_validation()
        self._build_edges()
        self._build_management()

    def _build_authority(self) -> None:
        self._crls = CrlIssuing(
            store=self._store,
            authorities=self._authorities,
            changed=self._changed,
            on_crl=self._crl_made,
            clock=self._clock,
        )
        self._service = AuthorityService(
            store=self._store,
            authorities=self._authorities,
            changed=self._changed,
            on_revoked=self._crls.revoked,
            on_status=self._status_changed,
            clock=self._clock,
        )
        self._publishers = Publishers(self._make_publisher)
        self._keeper = LeafKeeper(self._store)
        self._verification = Verification(
            store=self._store,
            caller=self._linking,
            keeper=self._keeper,
            authority_ids=self._known.ids_by_name,
            clock=self._clock,
        )
        register = self._linking.register
        register(ENROLL, counted(self._metrics, ENROLL, self._service.enroll))
        register(REVOKE, counted(self._metrics, REVOKE, self._service.revoke))
        register(STATUS, self._service.status)
        register(SEARCH, self._service.search)
        register(CATALOGUE, self._service.catalogue)
        register(
            CERTIFY_SIGNER, counted(self._metrics, CERTIFY_SIGNER, self._service.certify_signer)
        )

    def _build_validation(self) -> None:
        self._signers = Signers(
            objects=self._objects,
            tokens=self._tokens,
            store=self._store,
            caller=self._linking,
            upstreams=self._upstreams,
            clock=self._clock,
            on_change=lambda: self._responder.forget(),
        )
        self._responder = Responder(
            store=self._reader,
            known=self._known,
            signers=self._signers,
            pool=self._pool,
            clock=self._clock,
            health=lambda: self._reporter.health(),
            lag_seconds=self._lag_seconds,
        )
        self._receiver = receiver = PublicationReceiver(
            self._store,
            self._known,
            clock=self._clock,
            changed=self._changed,
            on_applied=self._applied,
        )
        self._linking.register(PUBLISH, receiver.publish)
        self._linking.register(PUBLISH_CONTENT, receiver.content)
        self._linking.register(PUBLISH_POSITION, receiver.position)
        compared = ComparedStore(self._store, self._known, self._keeper, on_applied=self._applied)
        self._linking.register(PUBLISH_DIGESTS, compared.digests)
        self._linking.register(PUBLISH_ENTRIES, compared.entries)
        self._linking.register(PUBLISH_REPAIR, compared.repair)

    def _build_edges(self) -> None:
        self._ports = Ports(self.settings, self._clock)
        self._registration = Registration(
            objects=self._objects,
            roles=lambda: self._linking.roles,
            caller=self._linking,
            upstreams=self._upstreams,
            audit=self._audit,
            clock=self._clock,
        )
        self._reporter = StatusReporter(
            settings=self.settings,
            version=version("peersys"),
            objects=self._objects,
            known=self._known,
            store=self._reader,
            signers=self._signers,
            crls=self._crls,
            publishers=self._publishers.all,
            peers=self._linking.peers,
            urls=self._ports.urls,
            following=lambda: self._follower.last_error,
            clock=self._clock,
        )

    def _build_management(self) -> None:
        self._checkpoints = AuditCheckpoints(
            self.settings.state_directory / "audit-checkpoints.jsonl",
            store=self._store,
            identities=self._identities,
            clock=self._clock,
        )
        self._management = Management(
            node=self.settings.identity,
            version=version("peersys"),
            objects=self._objects,
            store=self._store,
            creation=Creation(
                node=self.settings.identity,
                objects=self._objects,
                tokens=self._tokens,
                authorities=self._authorities,
                pool=self._pool,
                clock=self._clock,
            ),
            certification=Certification(
                node=self.settings.identity,
                store=self._store,
                authorities=self._authorities,
                changed=self._changed,
                clock=self._clock,
            ),
            authorities=self._service,
            views=ObjectViews(
                tokens=self._tokens,
                store=self._reader,
                known=self._known,
                live=self._reporter.live_states,
            ),
            refresh=ObjectRefresh(
                store=self._store,
                objects=self._objects,
                tokens=self._tokens,
                known=self._known,
                revision=self._heads.revision,
            ),
            runtime=self,
            checkpoints=self._checkpoints,
            clock=self._clock,
        )
        self._follower = StoreFollower(
            self._reader,
            follower=KeptState(
                objects=self._objects,
                known=self._known,
                responder=self._responder,
                crls=self._crls,
                learn_crl=self._learn_newest_crl,
            ),
            refresh=self._management.refresh,
            changed=self._changed,
            clock=self._clock,
            begin=self._heads,
        )

    async def _start(self) -> None:
        self._signers.configure()
        await self._follow_identities()
        await self._linking.configure()
        await self._follow_publishers()
        await self._ports.open_status(self._responder)
        await self._ports.open_metrics(self.metrics)
        await self._ports.open_admin(self._management)

    async def _load_crls(self) -> None:
        """Take up the newest CRLs of our trust anchors: what a peer told us survives a restart."""
        self._identities.configure(self._objects)
        for authority in self._known.all():
            await self._learn_newest_crl(authority.authority_id)

    async def _learn_newest_crl(self, authority_id: str) -> None:
        crl = await self._store.latest_crl(authority_id)
        if crl is not None:
            await self._learn_crl(crl)

    async def _follow_authorities(self, steps: Sequence[Step]) -> None:
        self._authorities.announce()
        self._responder.forget()
        for step in steps:
            if step.kind == "certification_authorities" and step.after is not None:
                await self._crls.make_if_due(step.name)

    async def _follow_identities(self) -> None:
        self._identities.configure(self._objects)
        await self._ports.open_rest(
            self._registration, self._identities.rest_context(self._objects)
        )

    async def _follow_publishers(self, *, restart: bool = False) -> None:
        specs = self._objects.specs("publishers", PublisherSpec)
        await self._publishers.configure(specs, self._tasks, restart=restart)

    def _make_publisher(self, spec: PublisherSpec) -> Publisher:
        return Publisher(
            spec,
            log_name=(
                f"{SHARED_LOG}{self._heads.log_id.hex()}"
                if self._is_shared
                else self.settings.identity.uri
            ),
            store=self._store,
            caller=self._linking,
            changed=self._changed,
            authority_ids=self._known.ids_by_name,
            clock=self._clock,
            turn=(
                SharedTurn(self._store, node=self.settings.identity.name, clock=self._clock)
                if self._is_shared
                else None
            ),
        )

    def _link_changed(self) -> None:
        self._signers.wake()
        self._upstreams.wake()

    def _crl_made(self, crl: CrlRecord) -> None:
        self._responder.drop_crl(crl.authority_id)
        if crl.content is None:
            self._identities.learn_crl(crl.der, self._objects)
        else:
            self._tasks.create_task(self._learn_crl(crl), name="learn-crl")

    async def _learn_crl(self, crl: CrlRecord) -> None:
        """Put a CRL in force for our links. A long one is read only where it is one of theirs."""
        authority = self._known.get(crl.authority_id)
        if crl.content is not None and not (
            authority and self._identities.trusts(authority.certificate, self._objects)
        ):
            return
        try:
            self._identities.learn_crl(await self._store.crl_der(crl), self._objects)
        except NodeAgentError as error:
            log.warning("CRL not in force for links", reason=str(error))

    def _status_changed(self, authority_id: str, serial: int) -> None:
        self._responder.drop(authority_id, serial)

    def _applied(self, applied: Applied) -> None:
        if applied.authorities:
            self._responder.forget()
        self._responder.applied(applied)
        for crl in applied.crls:
            self._crl_made(crl)

    def _lag_seconds(self) -> float | None:
        """Return how old what is known of the CAs with a signer here may be."""
        names = {spec.authority for spec in self._objects.specs("signers", SignerSpec)}
        names -= {item.name for item in self._objects.all("certification_authorities")}
        fresh_at = self._receiver.fresh_at
        if not names <= fresh_at.keys():
            return None
        now = self._clock.now()
        return max((now - fresh_at[name] for name in names), default=0.0)

    async def _audit(self, record: AuditRecord) -> None:
        self._metrics.audit.labels("allowed" if record.allowed else "denied").inc()
        await self._store.append_audit([record])


async def serve(settings: NodeSettings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    try:
        await node.open()
        await node.serve(stop)
    finally:
        await node.close()


def run(settings: NodeSettings) -> int:
    """Run a node in this process; return its exit status.

    Raises ConfigError, TokenError or StoreError when it can't start.
    """
    configure_logging(settings.log_level, node=settings.identity.name)
    try:
        uvloop.run(serve(settings))
    except* NodeAgentError as group:
        raise group.exceptions[0] from None
    return 0


def _make_directories(settings: NodeSettings) -> None:
    for directory, mode in ((settings.state_directory, 0o700), (settings.runtime_directory, 0o750)):
        directory.mkdir(parents=True, exist_ok=True, mode=mode)
    os.umask(0o077)
