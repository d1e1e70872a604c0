"""Approvals at the RA: a requester sees what it may approve, and no sign of the rest."""

from __future__ import annotations

from typing import Any

from node_agent.functions.encoding import decode_approval_cursor, encode_approval_cursor
from node_agent.functions.registration_approvals import RegistrationApprovals
from node_agent.objects import AccessRule, RequesterSpec
from node_agent.peers.approval_messages import (
    PendingAnswer,
    PendingDescription,
    PendingRequest,
)
from node_agent.policy import parse_roles
from node_agent.web.approval_bodies import ApprovalFilter, ApprovalPage
from node_agent.web.backends import Requester
from node_agent.web.rate_limit import Rate
from tests.support.event_loop import run

BOB = RequesterSpec(
    name="bob", token_sha256="ab" * 32, rules=(AccessRule(resource="/profile/shown"),)
)


def waiting(number: int, profile: str) -> PendingDescription:
    return PendingDescription(
        approval=number.to_bytes(32, "big"),
        authority="issuing",
        profile=profile,
        requester="alice",
        origin="spiffe://t.example/node/ra1",
        subject="CN=www",
        names=(),
        validity_seconds=None,
        opened_at=number,
        expires_at=10**10,
        needed=1,
        approvers=(),
        csr=b"",
    )


class Desk:
    """A CA where requests wait, and an RA that may see all of them."""

    def __init__(self, *profiles: str) -> None:
        self.waiting = [waiting(number, profile) for number, profile in enumerate(profiles)]
        self.asked = 0
        self.approvals = RegistrationApprovals(ask=self.ask, roles=lambda: parse_roles([], [BOB]))

    async def ask(self, requester: Any, operation: Any, request: Any, authority: str) -> Any:
        assert isinstance(request, PendingRequest)
        self.asked += 1
        behind = decode_approval_cursor(request.after) or (-1, b"")
        left = [one for one in self.waiting if (one.opened_at, one.approval) > behind]
        page = left[: request.limit]
        is_full = len(page) == request.limit
        last = encode_approval_cursor((page[-1].opened_at, page[-1].approval)) if page else None
        return PendingAnswer(requests=tuple(page), after=last if is_full else None)

    async def page(self, limit: int, after: str | None = None) -> ApprovalPage:
        query = ApprovalFilter(authority="issuing", limit=limit, after=after)
        return await self.approvals.pending(Requester("bob", Rate(300, 1000)), query)


def test_pages_are_as_if_nothing_else_waited() -> None:
    async def scene() -> None:
        alone = Desk(*["shown"] * 5)
        beside = Desk(*["hidden", "shown", "hidden", "hidden"] * 5)
        for limit in (1, 2, 3, 5, 6):
            ends = []
            for desk in (alone, beside):
                after, sizes = None, []
                while True:
                    page = await desk.page(limit, after)
                    sizes.append(len(page.requests))
                    assert {one.profile for one in page.requests} <= {"shown"}
                    after = page.next
                    if after is None:
                        break
                ends.append(sizes)
            assert ends[0] == ends[1], limit

    run(scene())


def test_where_nothing_may_be_seen_there_is_no_next_page() -> None:
    async def scene() -> None:
        page = await Desk(*["hidden"] * 7).page(3)
        assert (page.requests, page.next) == ((), None)

    run(scene())


def test_a_ca_whose_list_never_ends_is_not_asked_for_ever() -> None:
    async def scene() -> None:
        desk = Desk(*["hidden"] * 100)
        page = await desk.page(1)
        assert page.requests == ()
        assert desk.asked == 10

    run(scene())
