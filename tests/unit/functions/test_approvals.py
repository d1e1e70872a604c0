"""Approvals at the CA: nobody approves alone, nothing is issued twice, and nothing half-done."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import (
    ApprovalEnded,
    Conflict,
    NodeAgentError,
    NotFound,
    ProfileViolation,
    RequestRefused,
    SelfApproval,
)
from node_agent.functions.approval_identity import chain_of, encode_chain, profile_digest
from node_agent.objects import AccessRule, CertificateProfileSpec, PeerRoleSpec
from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingAnswer,
    PendingRequest,
    RejectRequest,
    VerdictAnswer,
    Waiting,
    WithdrawRequest,
)
from node_agent.peers.operations import CertificateAnswer, EnrollRequest, SearchRequest
from node_agent.policy import RoleSet, parse_roles
from node_agent.web.admin_bodies import ApprovalSelection
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.own_authority import (
    AUTHORITIES,
    OwnAuthority,
    context,
    own_authority,
    peer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

DAY = 86400
PROFILE: dict[str, Any] = {
    "name": "server",
    "san": [{"kind": "dns", "minimum": 1}],
    "validity_days": 30,
    "approvals": 2,
    "approval_expiry_seconds": DAY,
}
GRANTS = ("/peer/incoming", "/ra/*", "/ca/issuing", "/profile/*", "/protocol/rest")
RAS = ("ra1", "ra2")


def granted(*names: str) -> RoleSet:
    rules = tuple(AccessRule(resource=resource) for resource in GRANTS)
    members = tuple(f"spiffe://test.example/node/{name}" for name in names)
    return parse_roles([PeerRoleSpec(name="ras", members=members, rules=rules)])


@dataclass
class Desk:
    """A CA whose profile asks for two approvals, and what people do at its RAs."""

    own: OwnAuthority
    roles: RoleSet
    request = EnrollRequest(
        authority="issuing", profile="server", csr=csr_der(names=["dns:www.example.org"])
    )

    async def ask(
        self, *, ra: str = "ra1", number: int = 1, requester: str = "alice"
    ) -> CertificateAnswer:
        asking = context(ra, number=number, requester=requester, roles=self.roles)
        return await self.own.service.enroll(asking, self.request)

    async def open(self) -> bytes:
        """Ask, and return what the request is approved by."""
        answer = await self.ask()
        assert answer.chain == ()
        assert answer.waiting is not None
        return answer.waiting.approval

    async def approve(self, approval: bytes, who: str, *, ra: str = "ra2") -> VerdictAnswer:
        request = ApproveRequest(authority="issuing", profile="server", approval=approval)
        asking = context(ra, requester=who, roles=self.roles)
        return await self.own.service.approvals.approve(asking, request)

    async def reject(self, approval: bytes, who: str, reason: str = "") -> VerdictAnswer:
        request = RejectRequest(
            authority="issuing", profile="server", approval=approval, reason=reason
        )
        asking = context("ra2", requester=who, roles=self.roles)
        return await self.own.service.approvals.reject(asking, request)

    async def withdraw(
        self, approval: bytes, who: str = "alice", *, ra: str = "ra1"
    ) -> VerdictAnswer:
        request = WithdrawRequest(authority="issuing", profile="server", approval=approval)
        asking = context(ra, requester=who, roles=self.roles)
        return await self.own.service.approvals.withdraw(asking, request)

    async def listed(self, **selection: Any) -> list[bytes]:
        asking = context("ra2", requester="bob", roles=self.roles)
        request = PendingRequest(authority="issuing", **selection)
        answer = await self.own.service.approvals.pending(asking, request)
        return [item.approval for item in answer.requests]

    async def issued(self) -> int:
        return (await self.own.store.certificate_counts()).get(self.own.authority_id(), 0)

    async def outcomes(self) -> list[str]:
        entries = await self.own.store.audit_entries()
        return [entry.record.detail.get("outcome", "issued") for entry in entries]


@contextlib.asynccontextmanager
async def a_desk(directory: Path, **profile: Any) -> AsyncIterator[Desk]:
    kinds = {**AUTHORITIES, "certificate_profiles": [{**PROFILE, **profile}]}
    async with own_authority(directory, **kinds) as own:
        yield Desk(own, granted(*RAS))


def test_a_certificate_is_issued_once_after_two_people_approved(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            first = await desk.approve(approval, "bob")
            assert (first.state, first.given, first.needed) == ("waiting", 1, 2)
            waiting = (await desk.ask()).waiting
            expires_at = int(desk.own.clock.now()) + DAY
            assert waiting == Waiting(approval=approval, given=1, needed=2, expires_at=expires_at)
            assert (await desk.approve(approval, "carol")).given == 2
            assert await desk.issued() == 0
            answers = await asyncio.gather(*(desk.ask() for _ in range(5)))
            assert len({answer.chain for answer in answers}) == 1
            assert [answer.repeated for answer in answers].count(False) == 1
            again = await desk.ask(ra="ra2")
            assert (again.repeated, again.chain) == (True, answers[0].chain)
            assert await desk.issued() == 1
            entries = await desk.own.store.audit_entries()
            (detail,) = [e.record.detail for e in entries if "approvers" in e.record.detail]
            assert (detail["approvers"], detail["approval"]) == ("bob carol", approval.hex())

    run(scenario())


@pytest.mark.parametrize("who", ["alice", "ALICE"])
@pytest.mark.parametrize("ra", RAS)
def test_nobody_approves_their_own_request(tmp_path: Path, who: str, ra: str) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path, approvals=1) as desk:
            approval = await desk.open()
            with pytest.raises(SelfApproval, match="can't approve it"):
                await desk.approve(approval, who, ra=ra)
            assert (await desk.ask()).chain == ()

    run(scenario())


def test_one_person_counts_once_at_whichever_ra(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            assert (await desk.approve(approval, "bob")).changed
            again = await desk.approve(approval, "Bob", ra="ra1")
            assert (again.changed, again.given) == (False, 1)
            assert (await desk.ask()).chain == ()

    run(scenario())


def test_an_approval_names_who_gives_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            with pytest.raises(RequestRefused, match="names who gives it"):
                await desk.approve(await desk.open(), "")

    run(scenario())


def test_what_a_node_approved_counts_no_longer_than_its_role(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            await desk.approve(approval, "bob")
            await desk.approve(approval, "carol", ra="ra1")
            desk.roles = granted("ra1")
            waiting = (await desk.ask()).waiting
            assert waiting is not None
            assert waiting.given == 1
            assert (await desk.approve(approval, "bob", ra="ra1")).given == 2
            assert (await desk.ask()).chain

    run(scenario())


def test_a_profile_that_is_replaced_takes_the_approvals_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            await desk.approve(approval, "bob")
            await desk.own.apply(certificate_profiles=[{**PROFILE, "validity_days": 300}])
            assert await desk.listed() == []
            with pytest.raises(Conflict, match="has been replaced"):
                await desk.approve(approval, "carol")
            newer = await desk.open()
            assert newer != approval
            for who in ("bob", "carol"):
                await desk.approve(newer, who)
            assert (await desk.ask()).chain
            await desk.own.apply(certificate_profiles=[PROFILE])
            assert await desk.listed() == []
            assert (await desk.ask()).repeated
            assert await desk.issued() == 1

    run(scenario())


def test_a_profile_that_allows_less_now_refuses_what_was_approved(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            for who in ("bob", "carol"):
                await desk.approve(approval, who)
            rule = {"kind": "dns", "pattern": "other.example.org"}
            await desk.own.apply(certificate_profiles=[{**PROFILE, "san": [rule]}])
            with pytest.raises(ProfileViolation):
                await desk.ask()
            assert await desk.issued() == 0

    run(scenario())


def test_what_was_not_approved_in_time_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            for who in ("bob", "carol"):
                await desk.approve(approval, who)
            desk.own.clock.advance(DAY)
            assert await desk.listed() == []
            with pytest.raises(ApprovalEnded, match="not approved in time"):
                await desk.ask()
            with pytest.raises(Conflict, match="time for approvals is over"):
                await desk.approve(approval, "dave")
            assert await desk.issued() == 0

    run(scenario())


def test_a_rejection_ends_it_and_its_requester_learns_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            await desk.approve(approval, "bob")
            answer = await desk.reject(approval, "carol", "this host is not ours")
            assert (answer.state, answer.changed) == ("rejected", True)
            with pytest.raises(ApprovalEnded, match="rejected the request: this host"):
                await desk.ask()
            for late in (desk.approve(approval, "dave"), desk.reject(approval, "dave")):
                with pytest.raises(Conflict, match="rejected already"):
                    await late
            assert await desk.listed() == []

    run(scenario())


def test_only_its_requester_at_its_ra_withdraws_a_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            for other in (
                desk.withdraw(approval, "bob"),
                desk.withdraw(approval, "alice", ra="ra2"),
            ):
                with pytest.raises(NotFound):
                    await other
            assert (await desk.withdraw(approval)).state == "withdrawn"
            with pytest.raises(ApprovalEnded, match="was withdrawn"):
                await desk.ask()
            assert (await desk.ask(number=2)).waiting is not None

    run(scenario())


def test_what_an_approver_is_not_granted_is_as_absent_as_what_never_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            approvals = desk.own.service.approvals
            rules = [AccessRule(resource=resource) for resource in GRANTS]
            rules.append(AccessRule(resource="/profile/server", effect="deny"))
            member = "spiffe://test.example/node/ra2"
            narrow = parse_roles([PeerRoleSpec(name="n", members=(member,), rules=tuple(rules))])
            asking = context("ra2", requester="bob", roles=narrow)
            said = []
            for wanted in (approval, b"x" * 32):
                request = PendingRequest(authority="issuing", approval=wanted)
                with pytest.raises(NotFound) as caught:
                    await approvals.pending(asking, request)
                said.append(str(caught.value))
                other = ApproveRequest(authority="issuing", profile="other", approval=wanted)
                with pytest.raises(NotFound) as caught:
                    await approvals.approve(asking, other)
                said.append(str(caught.value))
            assert len(set(said)) == 1
            answer = await approvals.pending(asking, PendingRequest(authority="issuing"))
            assert answer.requests == ()

    run(scenario())


def of_tenants(**more: Any) -> RoleSet:
    """Return roles of two tenants' RAs that may do the same; ``more`` is what beta's has beside."""
    rules = tuple(AccessRule(resource=resource) for resource in GRANTS)
    return parse_roles(
        [
            PeerRoleSpec(name="acme", members=(uri("ra1"), uri("ra2")), rules=rules),
            PeerRoleSpec(name="beta", members=(uri("ra3"),), rules=rules, **more),
        ]
    )


def counted(
    name: str, method: Callable[..., Awaitable[Any]], work: list[str]
) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any, **options: Any) -> Any:
        work.append(name)
        return await method(*arguments, **options)

    return call


def uri(name: str) -> str:
    return f"spiffe://test.example/node/{name}"


async def told(desk: Desk, ra: str, approval: bytes) -> list[tuple[str, list[str]]]:
    """Return what an approver at ``ra`` is answered about ``approval``, and what it cost."""
    approvals, store = desk.own.service.approvals, desk.own.store
    work: list[str] = []
    for name in ("_rows", "add_vote", "end_approval"):
        setattr(store, name, counted(name, getattr(store, name), work))
    about: dict[str, Any] = {"authority": "issuing", "profile": "server", "approval": approval}
    said = []
    for method, request in (
        (approvals.pending, PendingRequest(authority="issuing", approval=approval)),
        (approvals.pending, PendingRequest(authority="issuing", limit=1)),
        (approvals.approve, ApproveRequest(**about)),
        (approvals.reject, RejectRequest(**about)),
        (approvals.withdraw, WithdrawRequest(**about)),
    ):
        work.clear()
        asking = context(ra, requester="bob", roles=desk.roles)
        try:
            answer = repr(await method(asking, request))
        except NodeAgentError as error:
            answer = f"{type(error).__name__}: {error}"
        said.append((answer, list(work)))
    return said


def test_a_neighbours_request_is_as_absent_as_one_that_never_was(tmp_path: Path) -> None:
    """Everything is granted to both tenants: only whose it is tells them apart."""

    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            desk.roles = of_tenants()
            approval = await desk.open()
            await desk.approve(approval, "carol")
            said = await told(desk, "ra3", approval)
            assert said == await told(desk, "ra3", b"x" * 32)
            assert [answer.partition(":")[0] for answer, _ in said].count("NotFound") == 4
            assert said[1][0] == repr(PendingAnswer(requests=(), after=None))
            assert await desk.listed() == [approval]
            assert (await desk.approve(approval, "dave")).given == 2

    run(scenario())


def test_an_approver_of_all_tenants_needs_no_sight_of_certificates(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            alone = (AccessRule(resource="/ra/approve"),)
            operator = PeerRoleSpec(
                name="approvers", members=(uri("ra3"),), rules=alone, certificate_scope="all"
            )
            desk.roles = RoleSet([*of_tenants().roles, *parse_roles([operator]).roles])
            approval = await desk.open()
            assert (await desk.approve(approval, "bob", ra="ra3")).given == 1
            await desk.approve(approval, "carol")
            assert (await desk.ask()).chain
            asking = context("ra3", requester="bob", roles=desk.roles)
            found = await desk.own.service.search(asking, SearchRequest(authority="issuing"))
            assert found.certificates == ()

    run(scenario())


def test_an_approval_counts_no_longer_than_its_ra_is_of_the_requests_tenant(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path, approvals=1) as desk:
            desk.roles = of_tenants(tenant="acme")
            approval = await desk.open()
            await desk.approve(approval, "bob", ra="ra3")
            desk.roles = of_tenants()
            waiting = (await desk.ask()).waiting
            assert waiting is not None
            assert waiting.given == 0

    run(scenario())


def test_another_tenant_gets_nothing_by_the_same_request(tmp_path: Path) -> None:
    """It guessed request id, requester and CSR of one that is approved."""

    async def scenario() -> None:
        async with a_desk(tmp_path, approvals=1) as desk:
            desk.roles = of_tenants()
            approval = await desk.open()
            await desk.approve(approval, "bob")
            waiting = (await desk.ask(ra="ra3")).waiting
            assert waiting is not None
            assert waiting.approval != approval
            assert waiting.given == 0

    run(scenario())


def test_the_list_goes_on_in_pages_and_shows_the_csr_of_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            for number in range(3):
                desk.own.clock.advance(1)
                await desk.ask(number=number)
            asking = context("ra2", requester="bob", roles=desk.roles)
            pending = desk.own.service.approvals.pending
            first = await pending(asking, PendingRequest(authority="issuing", limit=2))
            assert first.after is not None
            rest = await pending(asking, PendingRequest(authority="issuing", after=first.after))
            found = [*first.requests, *rest.requests]
            assert len({item.approval for item in found}) == 3
            assert {item.csr for item in found} == {b""}
            assert (found[0].requester, found[0].names) == ("alice", ("www.example.org",))
            one = await pending(
                asking, PendingRequest(authority="issuing", approval=found[1].approval)
            )
            assert [item.csr for item in one.requests] == [desk.request.csr]
            with pytest.raises(RequestRefused, match="search position"):
                await pending(asking, PendingRequest(authority="issuing", after="!"))

    run(scenario())


def test_another_request_under_the_same_id_is_a_conflict(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            await desk.open()
            asking = context(number=1, content=b"other", requester="alice", roles=desk.roles)
            with pytest.raises(Conflict, match="another request"):
                await desk.own.service.enroll(asking, desk.request)

    run(scenario())


def test_the_operator_sees_what_became_of_each_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approvals, everything = desk.own.service.approvals, ApprovalSelection(ended=True)

            async def states() -> list[str]:
                return [one.state for one in await approvals.listed(everything, desk.roles)]

            approval = await desk.open()
            await desk.approve(approval, "bob")
            view = await approvals.shown(approval, desk.roles)
            assert [(one.approver, one.counts) for one in view.approvals] == [("bob", True)]
            assert view.approvals[0].nodes == ("spiffe://test.example/node/ra2",)
            assert (view.csr or "").startswith("-----BEGIN CERTIFICATE REQUEST")
            view = await approvals.shown(approval, granted("ra1"))
            assert not view.approvals[0].counts
            assert await states() == ["waiting"]
            await desk.approve(approval, "carol")
            assert await states() == ["approved"]
            await desk.own.apply(certificate_profiles=[{**PROFILE, "validity_days": 9}])
            assert await states() == ["outdated"]
            await desk.own.apply(certificate_profiles=[PROFILE])
            assert (await desk.ask()).chain
            assert await states() == ["issued"]
            await desk.ask(number=2)
            desk.own.clock.advance(DAY)
            assert sorted(await states()) == ["expired", "issued"]
            assert await approvals.listed(ApprovalSelection(authority="issuing"), desk.roles) == []
            for missing in (
                approvals.shown(b"x" * 32, desk.roles),
                approvals.listed(ApprovalSelection(authority="nothing"), desk.roles),
            ):
                with pytest.raises(NotFound):
                    await missing

    run(scenario())


def test_every_step_leaves_an_entry(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            approval = await desk.open()
            await desk.ask()
            for who in ("bob", "bob", "carol"):
                await desk.approve(approval, who)
            await desk.ask()
            await desk.ask()
            assert await desk.outcomes() == [
                *["waits for approval"] * 2,
                *["approved"] * 3,
                "issued",
                "repeated",
            ]

    run(scenario())


def test_the_digest_of_a_profile_changes_with_what_is_written_and_nothing_else() -> None:
    spec = CertificateProfileSpec(name="server", approvals=2)
    same = CertificateProfileSpec(name="server", approvals=2, validity_days=90)
    assert profile_digest(spec) == profile_digest(same)
    for other in (
        CertificateProfileSpec(name="other", approvals=2),
        CertificateProfileSpec(name="server", approvals=1),
        CertificateProfileSpec(name="server", approvals=2, key_kinds=("ec-p256",)),
    ):
        assert profile_digest(spec) != profile_digest(other)


def test_the_chain_of_an_approval_is_stored_whole() -> None:
    chain = (peer("ra1"), replace(peer("proxy1"), serial=2**159))
    assert chain_of(encode_chain(chain)) == chain
