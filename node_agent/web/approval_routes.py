"""The RA REST API's operations on requests that wait for approval."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from node_agent.web.api import ApiAnswer, ApiCall, Route, json_answer
from node_agent.web.approval_bodies import (
    APPROVAL_PATTERN,
    ApprovalFilter,
    ApprovalPage,
    PendingApproval,
    VerdictOrder,
    VerdictOutcome,
    WaitingRequest,
)
from node_agent.web.parameters import parse_approval
from node_agent.web.problems import refuse

if TYPE_CHECKING:
    import uuid

    from node_agent.errors import AwaitsApproval
    from node_agent.web.backends import RegistrationBackend
    from node_agent.web.registration_bodies import EnrollOrder

__all__ = ["approval_routes", "waiting_answer"]

_ONE_REQUEST = "/v1/approvals/{authority}/{approval}"
_PATTERN = {"approval": APPROVAL_PATTERN}


def approval_routes(backend: RegistrationBackend) -> list[Route]:
    """Return the part of the route table."""
    api = _ApprovalApi(backend)
    return [
        Route(
            method="GET",
            path="/v1/approvals",
            name="list_approvals",
            summary="Requests to one CA that wait for approval, oldest first, in pages",
            handle=api.pending,
            query=ApprovalFilter,
            required_query=("authority",),
            answer=ApprovalPage,
        ),
        Route(
            method="GET",
            path=_ONE_REQUEST,
            name="get_approval",
            summary="One request that waits for approval, with its CSR",
            handle=api.one,
            answer=PendingApproval,
            path_patterns=_PATTERN,
        ),
        Route(
            method="POST",
            path=_ONE_REQUEST + "/verdict",
            name="decide_approval",
            summary="Approve or reject somebody's request, or withdraw one's own",
            handle=api.decide,
            body=VerdictOrder,
            answer=VerdictOutcome,
            path_patterns=_PATTERN,
        ),
    ]


def waiting_answer(order: EnrollOrder, request_id: uuid.UUID, waits: AwaitsApproval) -> ApiAnswer:
    """Return the answer to an enrolment that people have to approve first.

    The place to ask again is the one that was asked, with the same body and request id.
    """
    waiting = WaitingRequest(
        request_id=str(request_id),
        authority=order.authority,
        profile=order.profile,
        approval=waits.approval,
        approvals_given=waits.given,
        approvals_needed=waits.needed,
        expires_at=waits.expires_at,
    )
    headers = {"Retry-After": str(waits.retry_after_seconds), "Location": "/v1/certificates"}
    return json_answer(waiting, status=HTTPStatus.ACCEPTED, headers=headers)


@dataclass(frozen=True, slots=True)
class _ApprovalApi:
    """The handlers: decode, call the backend, encode. One per operation."""

    backend: RegistrationBackend

    async def pending(self, call: ApiCall) -> ApiAnswer:
        query = call.query(ApprovalFilter)
        if query.authority is None:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                "bad-query",
                "requests are listed for one CA",
                field_name="authority",
                remedy="add authority=<name>; GET /v1/catalogue lists the names",
            )
        return json_answer(await self.backend.approvals.pending(call.principal, query))

    async def one(self, call: ApiCall) -> ApiAnswer:
        authority, approval = call.path["authority"], parse_approval(call.path["approval"])
        return json_answer(await self.backend.approvals.one(call.principal, authority, approval))

    async def decide(self, call: ApiCall) -> ApiAnswer:
        authority, approval = call.path["authority"], parse_approval(call.path["approval"])
        order = call.body(VerdictOrder)
        if order.reason and order.verdict != "reject":
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                "bad-body",
                "only a rejection has a reason",
                field_name="reason",
                remedy="leave it out",
            )
        return json_answer(
            await self.backend.approvals.decide(call.principal, authority, approval, order)
        )
