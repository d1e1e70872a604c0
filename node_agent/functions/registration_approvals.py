"""Approvals at the RA: whether the approver may, and then the CA is asked. The RA keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from node_agent.errors import NotFound
from node_agent.functions.encoding import encode_approval_cursor, pem
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

# Of up to a hundred requests each. Whoever asks goes on from where they end.
_MOST_PAGES: Final = 10


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
        """Return one page of what this requester may approve.

        A page ends with the last request that it shows, or with the list. So where it ends says
        nothing of requests that the RA may see and the requester may not.
        """
        authority, after = query.authority or "", query.after
        found: list[PendingDescription] = []
        for _ in range(_MOST_PAGES):
            request = PendingRequest(authority=authority, limit=query.limit, after=after)
            answer = await self._ask(requester, PENDING, request, authority)
            found += (item for item in answer.requests if self._may(requester, item))
            after = answer.after
            if len(found) >= query.limit:
                found = found[: query.limit]
                after = encode_approval_cursor((found[-1].opened_at, found[-1].approval))
            if len(found) == query.limit or after is None:
                break
        return ApprovalPage(requests=tuple(map(_shown, found)), next=after)

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
