"""Approvals at the RA: whether the approver may, and then the CA is asked. The RA keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from node_agent.errors import NotFound
from node_agent.functions.encoding import pem
from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingDescription,
    PendingRequest,
    RejectRequest,
    VerdictAnswer,
    WithdrawRequest,
)
from node_agent.peers.operations import APPROVE, PENDING, REJECT, WITHDRAW, Operation
from node_agent.policy import Requester as RequesterSubject
from node_agent.web.approval_bodies import (
    ApprovalFilter,
    ApprovalPage,
    PendingApproval,
    VerdictOrder,
    VerdictOutcome,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import msgspec

    from node_agent.policy import RoleSet
    from node_agent.web.backends import Requester

__all__ = ["RegistrationApprovals"]


class Ask(Protocol):
    """Decide whether the requester may, then ask the CA. Raises PolicyDenied."""

    def __call__(
        self,
        requester: Requester,
        operation: Operation[Any, Any],
        request: msgspec.Struct,
        authority: str,
    ) -> Awaitable[Any]: ...


class RegistrationApprovals:
    """Implements ``web.backends.ApprovalBackend``."""

    def __init__(self, *, ask: Ask, roles: Callable[[], RoleSet]) -> None:
        self._ask = ask
        self._roles = roles

    async def pending(self, requester: Requester, query: ApprovalFilter) -> ApprovalPage:
        """Return one page of what this requester may approve."""
        authority = query.authority or ""
        request = PendingRequest(authority=authority, limit=query.limit, after=query.after)
        answer = await self._ask(requester, PENDING, request, authority)
        return ApprovalPage(
            requests=tuple(_shown(item) for item in answer.requests if self._may(requester, item)),
            next=answer.after,
        )

    async def one(self, requester: Requester, authority: str, approval: bytes) -> PendingApproval:
        """Return one request with its CSR. Raises NotFound, also for one that isn't granted."""
        request = PendingRequest(authority=authority, approval=approval)
        answer = await self._ask(requester, PENDING, request, authority)
        for item in answer.requests:
            if item.approval == approval and self._may(requester, item):
                return _shown(item)
        raise NotFound("no such request waits for approval")

    async def decide(
        self, requester: Requester, authority: str, approval: bytes, order: VerdictOrder
    ) -> VerdictOutcome:
        """Approve, reject or withdraw a request."""
        about: dict[str, Any] = {
            "authority": authority,
            "profile": order.profile,
            "approval": approval,
        }
        operation: Operation[Any, VerdictAnswer]
        request: msgspec.Struct
        match order.verdict:
            case "approve":
                operation, request = APPROVE, ApproveRequest(**about)
            case "reject":
                operation, request = REJECT, RejectRequest(**about, reason=order.reason)
            case "withdraw":
                operation, request = WITHDRAW, WithdrawRequest(**about)
        answer = await self._ask(requester, operation, request, authority)
        return VerdictOutcome(
            changed=answer.changed,
            state=answer.state,
            approvals_given=answer.given,
            approvals_needed=answer.needed,
            expires_at=answer.expires_at,
        )

    def _may(self, requester: Requester, item: PendingDescription) -> bool:
        return self._roles().permits(RequesterSubject(requester.name), f"/profile/{item.profile}")


def _shown(item: PendingDescription) -> PendingApproval:
    return PendingApproval(
        approval=item.approval.hex(),
        authority=item.authority,
        profile=item.profile,
        requester=item.requester,
        origin=item.origin,
        subject=item.subject,
        names=item.names,
        validity_seconds=item.validity_seconds,
        opened_at=item.opened_at,
        expires_at=item.expires_at,
        approvals_needed=item.needed,
        approvers=item.approvers,
        csr=pem("CERTIFICATE REQUEST", item.csr) if item.csr else None,
    )
