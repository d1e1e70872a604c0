"""Requests that wait for approvals: each ends once, whatever comes at the same instant."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from node_agent.errors import Conflict, NotFound
from node_agent.store import Store, approvals, open_store
from node_agent.store.records import (
    Approval,
    ApprovalQuery,
    ApprovalState,
    IssuanceOutcome,
    Vote,
)
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, DAY, approval_request, audit, certificate

NOW = 1_700_000_100
REQUEST = approval_request()
ALLOWED = Approval(request=REQUEST.id, approvers=("bob", "carol"))


def vote(approver: str, *, chain: bytes = b"ra2") -> Vote:
    return Vote(approver=approver, chain=chain, at=NOW)


async def approve(store: Store, *approvers: str) -> None:
    for approver in approvers:
        await store.add_vote(REQUEST.id, vote(approver), audit("ra.approve"))


async def issue(store: Store, number: int = 1, approval: Approval = ALLOWED) -> IssuanceOutcome:
    return await store.record_issuance(certificate(number), b"", audit(), approval=approval)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=float(NOW))


def test_what_waits_survives_a_restart_with_its_approvals(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            assert await store.open_approval(REQUEST, audit("ra.enroll")) == REQUEST
            await approve(store, "bob")
        async with open_store(store_url, clock=clock) as store:
            known = await store.open_approval(replace(REQUEST, opened_at=NOW), audit())
            assert known == replace(REQUEST, votes=(vote("bob"),))
            assert await store.approval(REQUEST.id) == known
            await approve(store, "carol")
            assert not (await issue(store)).repeated
            actions = [entry.record.action for entry in await store.audit_entries()]
            assert actions == ["ra.enroll", "ra.approve", "ra.approve", "ra.enroll"]

    run(scenario())


def test_an_approval_given_twice_counts_once_with_its_newer_chain(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await approve(store, "bob")
            newer = vote("bob", chain=b"ra3")
            record = await store.add_vote(REQUEST.id, newer, audit())
            assert record.votes == (newer,)
            with pytest.raises(Conflict, match="approvals that it needs"):
                await issue(store)
            assert await store.last_position() == 0

    run(scenario())


def test_approvals_at_the_same_instant_all_count(store_url: str, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await asyncio.gather(approve(store, "bob"), approve(store, "carol"))
            record = await store.approval(REQUEST.id)
            assert record is not None
            assert [one.approver for one in record.votes] == ["bob", "carol"]

    run(scenario())


def test_two_nodes_that_issue_at_the_same_instant_make_one_certificate(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with (
            open_store(store_url, clock=clock) as one,
            open_store(store_url, clock=clock) as other,
        ):
            await asyncio.gather(
                *(node.open_approval(REQUEST, audit()) for node in (one, other, one))
            )
            await asyncio.gather(approve(one, "bob"), approve(other, "carol"))
            wanted = certificate(1)
            outcomes = await asyncio.gather(
                *(
                    node.record_issuance(
                        replace(wanted, serial=wanted.serial + number),
                        b"",
                        audit(),
                        approval=ALLOWED,
                    )
                    for number, node in enumerate((one, other) * 4)
                )
            )
            assert [outcome.repeated for outcome in outcomes].count(False) == 1
            assert len({outcome.certificate.serial for outcome in outcomes}) == 1
            assert await one.last_position() == 1
            record = await other.approval(REQUEST.id)
            assert record is not None
            assert record.state is ApprovalState.ISSUED

    run(scenario())


@pytest.mark.parametrize("state", [ApprovalState.REJECTED, ApprovalState.WITHDRAWN])
def test_what_has_ended_is_neither_approved_nor_issued_nor_ended_again(
    store_url: str, clock: ManualClock, state: ApprovalState
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await approve(store, "bob", "carol")
            ended = await store.end_approval(
                REQUEST.id, state, by="dave", reason="unknown host", audit=audit()
            )
            assert (ended.state, ended.ended_by, ended.reason) == (state, "dave", "unknown host")
            entries = len(await store.audit_entries())
            for late in (
                approve(store, "erin"),
                issue(store),
                store.end_approval(REQUEST.id, state, by="x", reason="", audit=audit()),
            ):
                with pytest.raises(Conflict, match=f"{state.value} already"):
                    await late
            assert await store.approval(REQUEST.id) == ended
            assert len(await store.audit_entries()) == entries
            assert await store.last_position() == 0

    run(scenario())


def test_a_rejection_and_an_issuance_at_the_same_instant_have_one_outcome(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await approve(store, "bob", "carol")
            issued, rejected = await asyncio.gather(
                issue(store),
                store.end_approval(
                    REQUEST.id, ApprovalState.REJECTED, by="dave", reason="", audit=audit()
                ),
                return_exceptions=True,
            )
            assert isinstance(issued, Conflict) != isinstance(rejected, Conflict)
            record = await store.approval(REQUEST.id)
            assert record is not None
            assert (record.state is ApprovalState.ISSUED) == (await store.last_position() == 1)

    run(scenario())


def test_what_expired_is_neither_approved_nor_issued(store_url: str, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await approve(store, "bob", "carol")
            clock.step(REQUEST.expires_at - clock.now())
            for late in (approve(store, "dave"), issue(store)):
                with pytest.raises(Conflict, match="time for approvals is over"):
                    await late

    run(scenario())


def test_what_ended_long_ago_is_forgotten_with_its_approvals(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            await approve(store, "bob")
            clock.step(REQUEST.expires_at + approvals.REMEMBERED_SECONDS + 1 - clock.now())
            later = int(clock.now()) + DAY
            await store.open_approval(approval_request(2, expires_at=later), audit())
            assert await store.approval(REQUEST.id) is None
            again = await store.open_approval(replace(REQUEST, expires_at=later), audit())
            assert again.votes == ()

    run(scenario())


def test_a_request_id_stands_for_one_request_only(store_url: str, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            await store.open_approval(REQUEST, audit())
            other = replace(REQUEST, id=b"o" * 32, request_digest=b"o" * 32)
            with pytest.raises(Conflict, match="another request"):
                await store.open_approval(other, audit())
            elsewhere = replace(other, origin="spiffe://example.org/node/ra2")
            assert await store.open_approval(elsewhere, audit()) == elsewhere

    run(scenario())


def test_issuing_ends_the_same_request_under_an_earlier_profile_too(
    store_url: str, clock: ManualClock
) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            earlier = replace(REQUEST, id=b"e" * 32, profile_digest=b"e" * 32)
            for request in (earlier, REQUEST):
                await store.open_approval(request, audit())
            await approve(store, "bob", "carol")
            await issue(store)
            record = await store.approval(earlier.id)
            assert record is not None
            assert record.state is ApprovalState.ISSUED

    run(scenario())


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_OF_REQUESTER"])
def test_an_origin_and_a_requester_can_have_so_many_waiting_and_no_more(
    store_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(approvals, limit, 3)

    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            outcomes = await asyncio.gather(
                *(store.open_approval(approval_request(n), audit()) for n in range(5)),
                return_exceptions=True,
            )
            assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 2
            other = approval_request(9, origin="spiffe://example.org/node/ra2")
            await store.open_approval(other, audit())
            bob = store.open_approval(approval_request(8, requester="bob"), audit())
            if limit == "MOST_WAITING":
                with pytest.raises(Conflict, match="of this RA"):
                    await bob
            else:
                await bob

    run(scenario())


def test_an_unknown_request_is_not_found(store_url: str, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            assert await store.approval(REQUEST.id) is None
            with pytest.raises(NotFound):
                await approve(store, "bob")
            with pytest.raises(NotFound):
                await issue(store)

    run(scenario())


def test_requests_are_listed_in_pages_oldest_first(store_url: str, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=clock) as store:
            requests = [approval_request(n) for n in range(5)]
            for request in requests:
                await store.open_approval(request, audit())
            await store.open_approval(approval_request(9, authority_id="b" * 32), audit())
            await store.end_approval(
                requests[1].id, ApprovalState.REJECTED, by="dave", reason="", audit=audit()
            )
            await store.add_vote(requests[2].id, vote("bob"), audit())
            query = ApprovalQuery(authority_ids=(AUTHORITY,), limit=2, waiting_at=NOW)
            first = await store.approvals(query)
            assert [one.id for one in first] == [requests[0].id, requests[2].id]
            assert first[1].votes == (vote("bob"),)
            after = (first[1].opened_at, first[1].id)
            rest = await store.approvals(replace(query, after=after))
            assert [one.id for one in rest] == [requests[3].id, requests[4].id]
            everything = replace(query, waiting_at=None, limit=10)
            assert len(await store.approvals(everything)) == 5
            over = replace(query, waiting_at=requests[0].expires_at)
            assert await store.approvals(over) == []

    run(scenario())
