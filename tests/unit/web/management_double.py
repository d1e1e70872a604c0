"""An in-memory ManagementBackend: keeps objects honestly, plans, records who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from node_agent.errors import NotFound, Unavailable
from node_agent.objects import KINDS, NodeSpecification, ObjectSpec
from node_agent.web.admin_bodies import GivenApproval
from node_agent.web.backends import (
    AccessExplanation,
    AccessQuestion,
    ApprovalSelection,
    ApprovalView,
    AuditItem,
    AuditSelection,
    AuditVerification,
    AuthorityComparison,
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
    RecoveredAuthority,
    RecoveryOrder,
    RecoveryReport,
    RevocationOrder,
    RevocationOutcome,
    ServiceUrls,
    StatusReport,
    TraceStep,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE = "spiffe://test.example/node/ca1"
_KIND_OF = {spec: kind for kind, spec in KINDS.items()}


def approval_view(authority: str, **more: Any) -> ApprovalView:
    """Return a request that has one of two approvals."""
    fields: dict[str, Any] = {
        "approval": "0" * 64,
        "authority": authority,
        "profile": "server",
        "state": "waiting",
        "requester": "alice",
        "origin": NODE,
        "via": (),
        "tenant": "acme",
        "subject": "CN=www",
        "names": ("www.example.org",),
        "validity_seconds": None,
        "opened_at": 1,
        "expires_at": 2,
        "approvals_needed": 2,
        "approvals": (GivenApproval(approver="bob", nodes=(NODE,), at=1, counts=True),),
        "ended_by": "",
        "reason": "",
    }
    return ApprovalView(**{**fields, **more})


class MemoryManagement:
    """Objects in a dict; ``fault`` is raised by the next status call."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.callers: list[LocalCaller] = []
        self.revoked: list[tuple[str, int, str]] = []
        self.fault: Exception | None = None

    async def approvals(self, wanted: ApprovalSelection) -> Sequence[ApprovalView]:
        return [approval_view(wanted.authority or "issuing")]

    async def approval(self, approval: bytes) -> ApprovalView:
        if approval != bytes(32):
            raise NotFound("no such request waits for approval")
        return approval_view("issuing", csr="PEM")

    async def health(self) -> NodeHealth:
        return NodeHealth(node=NODE, version="0.1.0")

    async def node(self) -> NodeDescription:
        views = {kind: tuple(await self.objects(kind, ObjectPage())) for kind in KINDS}
        return NodeDescription(identity=NODE, version="0.1.0", started_at=1.5, objects=views)

    async def apply_node(
        self, specification: NodeSpecification, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        specs = [spec for kind in KINDS for spec in getattr(specification, kind)]
        return self._apply(specs, dry_run=dry_run, caller=caller)

    async def objects(self, kind: str, page: ObjectPage) -> Sequence[ObjectView]:
        names = sorted(name for known, name in self.stored if known == kind and name > page.after)
        return [ObjectView(spec=self.stored[kind, name], state={}) for name in names[: page.limit]]

    async def object(self, kind: str, name: str) -> ObjectView:
        if (kind, name) not in self.stored:
            raise NotFound(f"there is no {name} among the {kind}")
        return ObjectView(spec=self.stored[kind, name], state={})

    async def apply_object(
        self, spec: ObjectSpec, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        return self._apply([spec], dry_run=dry_run, caller=caller)

    async def delete_object(
        self, kind: str, name: str, *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        self.callers.append(caller)
        before = self.stored.get((kind, name))
        if before is None:
            return PlanResult(changed=False)
        if not dry_run:
            del self.stored[kind, name]
        step = PlanStep(action="delete", kind=kind, name=name, before=before, after=None)
        return PlanResult(changed=True, steps=(step,))

    async def certify(
        self, order: ManagementCertificateOrder, *, dry_run: bool, caller: LocalCaller
    ) -> ManagementCertificate:
        return ManagementCertificate(
            changed=not dry_run,
            certificate=order.csr,
            trust_anchors=(),
            crl=None,
            serial="0a",
            not_after=2_000_000_000,
        )

    async def revoke_certificate(
        self, authority: str, serial: int, order: RevocationOrder, *, caller: LocalCaller
    ) -> RevocationOutcome:
        self.revoked.append((authority, serial, order.reason))
        return RevocationOutcome(changed=True, status="revoked", revoked_at=5, reason=order.reason)

    async def certificates(self, query: CertificateFilter) -> Sequence[CertificateInfo]:
        return [_certificate(number) for number in range(query.limit)]

    async def certificate(self, authority: str, serial: int) -> CertificateInfo:
        if (authority, serial) != ("issuing", 10):
            raise NotFound("no such certificate")
        return _certificate(serial)

    async def crl(self, authority: str, *, delta: bool, shard: int) -> CrlView:
        base = 6 if delta else None
        return CrlView(
            authority=authority, number=7, this_update=0, next_update=1, crl="PEM", base_number=base
        )

    async def peers(self) -> Sequence[PeerStatus]:
        return []

    async def ping(self, peer: str) -> PingResult:
        if peer == "down":
            raise Unavailable("no live link", retry_after_seconds=7)
        if peer != "spiffe://test.example/node/ra1":
            raise NotFound(f"no peer {peer}")
        return PingResult(round_trip_ms=(0.5,))

    async def verify_publisher(
        self, name: str, *, repair: bool, recompute: bool
    ) -> PublisherVerification:
        if name != "va1":
            raise NotFound(f"no publisher {name}")
        found = AuthorityComparison(
            authority="issuing", entries=3, missing=1, changed=0, surplus=0, repaired=int(repair)
        )
        return PublisherVerification(
            publisher=name, peer=NODE, authorities=(found,), seconds=0.1, exchanges=7, at=1
        )

    async def open_token(self, name: str, *, caller: LocalCaller) -> CryptoTokenStatus:
        self.callers.append(caller)
        return CryptoTokenStatus(name=name, kind="pkcs11", state="open", keys=1, last_error=None)

    async def recover(self, order: RecoveryOrder, *, caller: LocalCaller) -> RecoveryReport:
        found = RecoveredAuthority(
            authority="issuing", certificates=2, statuses=1, crl_number=7, listed=("ab",)
        )
        return RecoveryReport(
            dry_run=order.dry_run,
            position_before=5,
            position=max(9, order.position),
            peers=(NODE,),
            authorities=(found,),
        )

    def metrics(self) -> bytes:
        return b"peersys_healthy 1.0\n"

    async def status(self) -> StatusReport:
        if self.fault is not None:
            raise self.fault
        return StatusReport(
            node={"identity": NODE},
            health="ok",
            reasons=(),
            peers=(),
            publishers=(),
            signers=(),
            authorities=(),
            urls=ServiceUrls(),
        )

    async def audit(self, wanted: AuditSelection) -> Sequence[AuditItem]:
        return [_audit_item(wanted.after + 1 + number) for number in range(wanted.limit)]

    async def verify_audit(self) -> AuditVerification:
        return AuditVerification(ok=True, entries=3, first_bad=None)

    async def explain(self, question: AccessQuestion) -> AccessExplanation:
        resource = f"/ca/{question.authority}"
        step = TraceStep(
            link="origin",
            identity=question.identity,
            resource=resource,
            allowed=False,
            rule="",
            reason="nothing grants it",
        )
        return AccessExplanation(
            allowed=False,
            reason=step.reason,
            rule="",
            resources=(resource,),
            decided_by=step,
            trace=(step,),
        )

    def _apply(
        self, specs: Sequence[ObjectSpec], *, dry_run: bool, caller: LocalCaller
    ) -> PlanResult:
        self.callers.append(caller)
        steps = []
        for spec in specs:
            kind, after = _KIND_OF[type(spec)], msgspec.to_builtins(spec)
            before = self.stored.get((kind, spec.name))
            if before == after:
                continue
            action = "update" if before else "create"
            steps.append(
                PlanStep(action=action, kind=kind, name=spec.name, before=before, after=after)
            )
            if not dry_run:
                self.stored[kind, spec.name] = after
        objects: dict[str, dict[str, ObjectView]] = {}
        for step in steps:
            view = ObjectView(spec=step.after or {}, state=None if dry_run else {})
            objects.setdefault(step.kind, {})[step.name] = view
        return PlanResult(changed=bool(steps), steps=tuple(steps), objects=objects)


def _certificate(number: int) -> CertificateInfo:
    return CertificateInfo(
        authority="issuing",
        serial=f"{number:x}",
        subject="CN=a",
        names=(),
        profile="server",
        requester="alice",
        not_before=0,
        not_after=1,
        status="good",
    )


def _audit_item(sequence: int) -> AuditItem:
    return AuditItem(
        sequence=sequence,
        at=1.0,
        action="ra.enroll",
        allowed=True,
        chain="alice via ra1",
        resources=("/ra/enroll",),
        reason="",
        detail={},
        hash="00",
    )
