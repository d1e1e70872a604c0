"""Local management: plan, check, commit in one transaction, then let the node follow.

Reached only through the admin socket. A plan is checked as a whole before anything is made, what
must be made (keys, CA certificates) is prepared in memory, one transaction stores it all, and only
then does the running node take it over.
"""

from __future__ import annotations

import asyncio
import random
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from node_agent.errors import NotAtWork, Outdated
from node_agent.functions.audit_view import audit_items, select_entries
from node_agent.functions.creation import Creation, PlanBatch
from node_agent.functions.explanation import explain_access
from node_agent.functions.named_authorities import (
    check_named_authorities,
    check_published_authorities,
)
from node_agent.functions.node_objects import unknown
from node_agent.functions.peer_issuers import check_peer_issuers
from node_agent.functions.plan import (
    Step,
    check_objects,
    copy_objects,
    plan_node,
    plan_object,
    spec_fields,
)
from node_agent.objects import KINDS, NodeSpecification, ObjectSpec
from node_agent.store.records import AuditRecord
from node_agent.web.backends import (
    AccessExplanation,
    AccessQuestion,
    ApprovalSelection,
    ApprovalView,
    AuditItem,
    AuditSelection,
    AuditVerification,
    CertificateFilter,
    CertificateInfo,
    CrlView,
    CryptoTokenStatus,
    LocalCaller,
    ManagementCertificate,
    ManagementCertificateOrder,
    NodeDescription,
    NodeHealth,
    ObjectPage,
    ObjectView,
    PeerStatus,
    PingResult,
    PlanResult,
    PlanStep,
    PublisherVerification,
    RecoveryOrder,
    RecoveryReport,
    RevocationOrder,
    RevocationOutcome,
    StatusReport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.audit_checkpoints import AuditCheckpoints
    from node_agent.functions.authority import AuthorityService
    from node_agent.functions.certification import Certification
    from node_agent.functions.node_objects import NodeObjects
    from node_agent.functions.object_views import ObjectViews
    from node_agent.functions.refreshing import ObjectRefresh
    from node_agent.identity import NodeIdentity, PeerIdentity
    from node_agent.policy import RoleSet
    from node_agent.store import Store

__all__ = ["Management", "Runtime"]


# Whoever comes too late has another node's plan to thank for it; all are made in the end.
_MOST_ATTEMPTS = 30
_MOST_PAUSE_SECONDS = 0.1


class Runtime(Protocol):
    """The running node, as management needs it."""

    @property
    def roles(self) -> RoleSet:
        """The role set in force."""
        ...

    def follow_rights(self) -> None:
        """Put the roles and the requesters' rules in force as the objects now say."""
        ...

    async def follow(self, steps: Sequence[Step], *, elsewhere: bool = False) -> None:
        """Make the running parts what the committed objects now say, as far as they can be."""
        ...

    async def catch_up(self) -> None:
        """Try again what couldn't be followed."""
        ...

    def faults_of(self, objects: Iterable[tuple[str, str]]) -> Mapping[str, str]:
        """Return what isn't at work of these objects (kind, name), and why."""
        ...

    def peers(self) -> list[PeerStatus]:
        """Return every connector and every incoming peer."""
        ...

    def known_as(self, node: NodeIdentity) -> PeerIdentity:
        """Return a node with its certificate's marks as far as they are known."""
        ...

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a peer."""
        ...

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        """Compare a publisher's peer with this node."""
        ...

    async def open_token(self, name: str) -> CryptoTokenStatus:
        """Try to open a crypto token now."""
        ...

    async def recover(self, order: RecoveryOrder, *, caller: str) -> RecoveryReport:
        """Bring a restored store up to what its peers have seen."""
        ...

    def metrics(self) -> bytes:
        """Return the node's metrics."""
        ...

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        ...


class Management:
    """Implements ``web.backends.ManagementBackend``."""

    def __init__(
        self,
        *,
        node: NodeIdentity,
        version: str,
        objects: NodeObjects,
        store: Store,
        creation: Creation,
        certification: Certification,
        authorities: AuthorityService,
        views: ObjectViews,
        refresh: ObjectRefresh,
        runtime: Runtime,
        checkpoints: AuditCheckpoints,
        clock: Clock,
    ) -> None:
        self._node = node
        self._version = version
        self._objects = objects
        self._store = store
        self._creation = creation
        self._certification = certification
        self._authorities = authorities
        self._views = views
        self._refresh = refresh
        self._runtime = runtime
        self._checkpoints = checkpoints
        self._clock = clock
        self._started_at = clock.now()
        # One plan at a time: a plan is made against what the last one left.
        self._planning = asyncio.Lock()

    async def health(self) -> NodeHealth:
        """Answer that the agent runs."""
        return NodeHealth(node=self._node.uri, version=self._version)

    async def node(self) -> NodeDescription:
        """Return all objects."""
        objects = {kind: tuple(await self.objects(kind, ObjectPage())) for kind in KINDS}
        return NodeDescription(
            identity=self._node.uri,
            version=self._version,
            started_at=self._started_at,
            objects=objects,
        )

    async def apply_node(
        self, specification: NodeSpecification, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Plan the whole specification and, unless ``dry_run``, apply it."""
        async with self._planning:
            named = {(kind, spec.name) for kind in KINDS for spec in getattr(specification, kind)}
            return await self._plan_and_do(
                lambda: plan_node(self._objects.specifications(), specification),
                named,
                dry_run=dry_run,
                caller=caller,
            )

    async def objects(self, kind: str, page: ObjectPage) -> Sequence[ObjectView]:
        """Return a page of the objects of ``kind``: only what is on it is looked at."""
        items = (item for item in self._objects.all(kind) if item.name > page.after)
        return [await self._views.view(item) for item in islice(items, page.limit)]

    async def object(self, kind: str, name: str) -> ObjectView:
        """Return one object."""
        found = self._objects.find(kind, name)
        if found is None:
            there = (item.name for item in self._objects.all(kind))
            raise unknown(f"object {name!r} among {kind}", there)
        return await self._views.view(found)

    async def apply_object(
        self, spec: ObjectSpec, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Create or change one object."""
        kind = next(kind for kind, known in KINDS.items() if isinstance(spec, known))
        async with self._planning:
            return await self._plan_and_do(
                lambda: plan_object(self._objects.specifications(), kind, spec.name, spec),
                {(kind, spec.name)},
                dry_run=dry_run,
                caller=caller,
            )

    async def delete_object(
        self, kind: str, name: str, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        """Delete one object; refuse while others name it."""
        self._objects.all(kind)
        async with self._planning:
            return await self._plan_and_do(
                lambda: plan_object(self._objects.specifications(), kind, name, None),
                set(),
                dry_run=dry_run,
                caller=caller,
            )

    async def refresh(self) -> None:
        """Take over what other nodes of the store have changed."""
        async with self._planning:
            await self._refresh.refresh(self._runtime)

    async def certify(
        self, order: ManagementCertificateOrder, *, dry_run: bool, caller: LocalCaller
    ) -> ManagementCertificate:
        """Certify a node's key with a local management CA."""
        async with self._planning:
            return await self._certification.certify(order, dry_run=dry_run, caller=str(caller))

    async def revoke_certificate(
        self, authority: str, serial: int, order: RevocationOrder, *, caller: LocalCaller
    ) -> RevocationOutcome:
        """Revoke a certificate of a local CA."""
        self._check_authority(authority)
        return await self._authorities.revoke_locally(authority, serial, order, caller=str(caller))

    async def approvals(self, wanted: ApprovalSelection) -> Sequence[ApprovalView]:
        """Return requests for approval at this node's CAs, oldest first."""
        if wanted.authority:
            self._check_authority(wanted.authority)
        return await self._authorities.approvals.listed(wanted, self._runtime.roles)

    def _check_authority(self, name: str) -> None:
        kind = "certification_authorities"
        if self._objects.find(kind, name) is None:
            raise unknown(f"CA {name!r}", (item.name for item in self._objects.all(kind)))

    async def approval(self, approval: bytes) -> ApprovalView:
        """Return one request for approval with its CSR."""
        return await self._authorities.approvals.shown(approval, self._runtime.roles)

    async def certificates(self, query: CertificateFilter) -> Sequence[CertificateInfo]:
        """Return this node's certificates, newest first."""
        return await self._views.certificates(query)

    async def certificate(self, authority: str, serial: int) -> CertificateInfo:
        """Return one certificate of a CA that this node knows."""
        return await self._views.certificate(authority, serial)

    async def crl(self, authority: str, *, delta: bool, shard: int) -> CrlView:
        """Return the newest CRL of a CA that this node knows."""
        return await self._views.crl(authority, delta=delta, shard=shard)

    async def peers(self) -> Sequence[PeerStatus]:
        """Return every connector and every incoming peer."""
        return self._runtime.peers()

    async def ping(self, peer: str) -> PingResult:
        """Measure every live link to a peer."""
        return await self._runtime.ping(peer)

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        """Compare a publisher's peer with this node, and repair it."""
        return await self._runtime.verify_publisher(name, repair=repair, recompute=recompute)

    async def open_token(self, name: str, *, caller: LocalCaller) -> CryptoTokenStatus:
        """Try to open a crypto token now, also after its PIN was refused."""
        record = AuditRecord(
            at=self._clock.now(),
            action="manage.open",
            allowed=True,
            chain=str(caller),
            resources=(f"crypto_tokens/{name}",),
        )
        self._objects.get("crypto_tokens", name)
        await self._store.append_audit([record])
        return await self._runtime.open_token(name)

    async def recover(self, order: RecoveryOrder, *, caller: LocalCaller) -> RecoveryReport:
        """Bring a restored store up to what its peers have seen."""
        return await self._runtime.recover(order, caller=str(caller))

    def metrics(self) -> bytes:
        """Return the node's metrics in the text format of Prometheus."""
        return self._runtime.metrics()

    async def status(self) -> StatusReport:
        """Return the whole node at a glance."""
        return await self._runtime.status()

    async def audit(self, wanted: AuditSelection) -> Sequence[AuditItem]:
        """Return audit entries."""
        home = self._node.trust_domain
        return audit_items(await select_entries(self._store, wanted, home=home))

    async def verify_audit(self) -> AuditVerification:
        """Recompute the audit chain, and hold it against the signed checkpoints."""
        known = await self._checkpoints.read()
        result = await self._store.verify_audit(checkpoints=known.heads)
        return AuditVerification(
            ok=result.ok and not known.fault,
            entries=result.entries,
            first_bad=result.first_bad,
            reason=result.reason or known.fault,
            checkpoints=len(known.heads),
            checkpoint=max((head.sequence for head in known.heads), default=0),
        )

    async def explain(self, question: AccessQuestion) -> AccessExplanation:
        """Decide without doing."""
        return explain_access(question, self._runtime.roles, self._runtime.known_as)

    async def _plan_and_do(
        self,
        make_plan: Callable[[], list[Step]],
        named: Iterable[tuple[str, str]],
        *,
        dry_run: bool,
        caller: LocalCaller,
    ) -> PlanResult:
        """Plan against what the store holds now, and again when another node was faster."""
        for _ in range(_MOST_ATTEMPTS):
            await self._refresh.refresh(self._runtime)
            try:
                return await self._carry_out(make_plan(), named, dry_run=dry_run, caller=caller)
            except Outdated as reason:
                outdated = reason
                await self._clock.sleep(random.uniform(0, _MOST_PAUSE_SECONDS))  # noqa: S311  # no secret
        raise outdated

    async def _carry_out(
        self,
        steps: list[Step],
        named: Iterable[tuple[str, str]],
        *,
        dry_run: bool,
        caller: LocalCaller,
    ) -> PlanResult:
        objects = copy_objects(self._objects.specifications(), steps)
        check_objects(objects, steps)
        check_peer_issuers(objects, steps, self._node)
        check_named_authorities(objects)
        check_published_authorities(objects, steps)
        touched = {*named, *((step.kind, step.name) for step in steps)}
        if not dry_run:
            await self._do(steps, touched, str(caller))
        changing = {(step.kind, step.name) for step in steps} if dry_run else set()
        return PlanResult(
            changed=bool(steps),
            steps=tuple(_plan_step(step) for step in steps),
            objects=await self._touched(touched - changing),
        )

    async def _do(self, steps: list[Step], touched: Iterable[tuple[str, str]], caller: str) -> None:
        """Commit and follow; without a step, follow what an earlier plan has left."""
        if steps:
            await self._commit(steps, caller)
            await self._runtime.follow(steps)
        else:
            await self._runtime.catch_up()
        faults = self._runtime.faults_of(touched)
        if faults:
            raise NotAtWork(faults)

    async def _commit(self, steps: list[Step], caller: str) -> None:
        batch = PlanBatch(at=int(self._clock.now()))
        try:
            for step in steps:
                await self._creation.prepare(step, batch)
                batch.audit.append(_audit_record(step, caller, self._clock.now()))
            await self._store.apply_plan(
                batch.changes,
                keys=batch.keys,
                entries=batch.entries,
                certificates=batch.certificates,
                audit=batch.audit,
                made_at=self._refresh.revision,
            )
        except BaseException:
            await self._creation.withdraw(batch)
            raise
        self._refresh.revision += 1
        self._objects.apply(batch.changes)

    async def _touched(
        self, touched: Iterable[tuple[str, str]]
    ) -> dict[str, dict[str, ObjectView]]:
        views: dict[str, dict[str, ObjectView]] = {}
        for kind, name in sorted(touched):
            item = self._objects.find(kind, name)
            if item is not None:
                views.setdefault(kind, {})[name] = await self._views.view(item)
        return views


def _plan_step(step: Step) -> PlanStep:
    return PlanStep(
        action=step.action,
        kind=step.kind,
        name=step.name,
        before=spec_fields(step.before),
        after=spec_fields(step.after),
    )


def _audit_record(step: Step, caller: str, at: float) -> AuditRecord:
    return AuditRecord(
        at=at,
        action=f"manage.{step.action}",
        allowed=True,
        chain=caller,
        resources=(f"{step.kind}/{step.name}",),
        detail={"fields": ",".join(_changed_fields(step))},
    )


def _changed_fields(step: Step) -> list[str]:
    """Name what a step changes; values stay out of the log: some are long, and all are in the
    object itself.
    """
    if step.before is None or step.after is None:
        return []
    fields = step.after.__struct_fields__
    return [name for name in fields if getattr(step.before, name) != getattr(step.after, name)]
