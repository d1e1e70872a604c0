"""Requests for approval as the admin API shows them: to look at, never to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.functions.approval_identity import chain_of
from node_agent.functions.encoding import pem
from node_agent.store.records import ApprovalState
from node_agent.web.admin_bodies import ApprovalView, GivenApproval

if TYPE_CHECKING:
    from collections.abc import Container

    from node_agent.store.records import ApprovalRecord, Vote

__all__ = ["approval_view"]


def approval_view(
    record: ApprovalRecord,
    *,
    authority: str,
    counting: Container[str],
    state: str,
    with_csr: bool = False,
) -> ApprovalView:
    """Return a request; ``counting`` are the approvers whose approvals still count."""
    return ApprovalView(
        approval=record.id.hex(),
        authority=authority,
        profile=record.profile,
        state=state,
        requester=record.requester,
        origin=record.origin,
        via=tuple(record.via.split()),
        tenant=record.tenant,
        subject=record.subject,
        names=record.names,
        validity_seconds=record.validity_seconds,
        opened_at=record.opened_at,
        expires_at=record.expires_at,
        approvals_needed=record.needed,
        approvals=tuple(_given(vote, counts=vote.approver in counting) for vote in record.votes),
        ended_by=record.ended_by if record.state is not ApprovalState.WAITING else "",
        reason=record.reason,
        csr=pem("CERTIFICATE REQUEST", record.csr) if with_csr else None,
    )


def _given(vote: Vote, *, counts: bool) -> GivenApproval:
    nodes = tuple(peer.node.uri for peer in chain_of(vote.chain))
    return GivenApproval(approver=vote.approver, nodes=nodes, at=vote.at, counts=counts)
