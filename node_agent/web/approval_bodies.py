"""Bodies of the RA REST API about requests that wait for approval (``docs/reference/rest.md``)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from node_agent.web.bodies import Order, View

__all__ = [
    "APPROVAL_PATTERN",
    "ApprovalFilter",
    "ApprovalPage",
    "PendingApproval",
    "VerdictOrder",
    "VerdictOutcome",
    "WaitingRequest",
]

APPROVAL_PATTERN = r"^[0-9a-f]{64}$"
"""SHA-256 over all that is approved, lower-case hexadecimal."""


class WaitingRequest(View, frozen=True, kw_only=True):
    """The answer 202 to an enrolment: send it again with the same ``request_id``, until then."""

    request_id: str
    authority: str
    profile: str
    approval: str
    approvals_given: int
    approvals_needed: int
    expires_at: int
    state: Literal["waiting"] = "waiting"


class ApprovalFilter(Order, frozen=True, kw_only=True):
    """Which requests that wait are listed: those of one CA, in pages."""

    authority: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    after: str | None = None


class PendingApproval(View, frozen=True, kw_only=True):
    """A request that waits. ``csr`` (PEM) only where one is asked for."""

    approval: str
    authority: str
    profile: str
    requester: str
    origin: str
    subject: str
    names: tuple[str, ...]
    validity_seconds: int | None
    opened_at: int
    expires_at: int
    approvals_needed: int
    approvers: tuple[str, ...]
    csr: str | None = None


class ApprovalPage(View, frozen=True, kw_only=True):
    """Oldest first; ``next`` goes into ``after`` of the following request."""

    requests: tuple[PendingApproval, ...]
    next: str | None = None


class VerdictOrder(Order, frozen=True, kw_only=True):
    """``approve`` or ``reject`` somebody's request, or ``withdraw`` one's own. ``profile`` is the
    request's; ``reason`` is told to the requester of a rejected one.
    """

    verdict: Literal["approve", "reject", "withdraw"]
    profile: Annotated[str, msgspec.Meta(min_length=1)]
    reason: Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""


class VerdictOutcome(View, frozen=True, kw_only=True):
    """The request after it. ``changed`` is False for an approval that was given already."""

    changed: bool
    state: str
    approvals_given: int
    approvals_needed: int
    expires_at: int
