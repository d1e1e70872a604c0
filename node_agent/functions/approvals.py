"""Approvals at the CA: who still has to approve an enrolment, and what approvers may do.

Nothing is issued by an approval. The requester asks again with the same request id, and the CA
decides anew: what the requester's chain may do now, what the profile says now, and which approvals
still count. Only an approval whose own chain of nodes would be granted it now counts, so that a
role withdrawn, or a node isolated, takes back what it approved.

A request is its tenant's, as its certificate will be. To an approver of another tenant, or one who
isn't granted its CA and profile, it is as absent as one that never was: in a list, by its name, and
to every verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.errors import ApprovalEnded, Conflict, NotFound, RequestRefused, SelfApproval
from node_agent.functions.approval_identity import (
    approval_id,
    chain_of,
    encode_chain,
    profile_digest,
)
from node_agent.functions.approval_view import approval_view
from node_agent.functions.certificate_records import with_detail
from node_agent.functions.encoding import decode_approval_cursor, encode_approval_cursor
from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingAnswer,
    PendingDescription,
    PendingRequest,
    RejectRequest,
    VerdictAnswer,
    Waiting,
    WithdrawRequest,
)
from node_agent.peers.chain_policy import decide_chain
from node_agent.peers.operations import APPROVE
from node_agent.pki.names import format_name
from node_agent.policy import approvable_by, tenancy_of
from node_agent.store.records import (
    Approval,
    ApprovalQuery,
    ApprovalRecord,
    ApprovalState,
    AuditRecord,
    Vote,
)

if TYPE_CHECKING:
    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.identity import PeerIdentity
    from node_agent.objects import CertificateProfileSpec
    from node_agent.peers.dispatcher import Context
    from node_agent.peers.operations import EnrollRequest
    from node_agent.pki.issue import ToBeSigned
    from node_agent.policy import RoleSet
    from node_agent.store.api import Writer
    from node_agent.web.admin_bodies import ApprovalSelection, ApprovalView

__all__ = ["Approvals", "is_current", "valid_approvers"]

# A request has up to 250 names, and a page has to fit a message.
_MOST_LISTED: Final = 100


class Approvals:
    """The CA's side of approvals; ``permit`` stands before each issuance."""

    def __init__(self, *, store: Writer, authorities: Authorities, clock: Clock) -> None:
        self._store = store
        self._authorities = authorities
        self._clock = clock

    async def permit(
        self,
        context: Context,
        authority: LoadedAuthority,
        request: EnrollRequest,
        prepared: ToBeSigned,
    ) -> Approval | Waiting | None:
        """Return what allows the issuance, what it waits for, or None where no approval is needed.

        Raises ApprovalEnded; Conflict for a request id that was used for something else.
        """
        spec = self._authorities.profile_spec(request.profile)
        if not spec.approvals:
            return None
        new = self._new(context, authority, request, prepared, spec)
        if await self._is_answered(context):
            return Approval(request=new.id, approvers=())
        record = await self._store.approval(new.id)
        audit = _audit(context, new, "waits for approval")
        if record is None:
            record = await self._store.open_approval(new, audit)
            return self._waiting(context, authority, record)
        self._check_goes_on(record)
        approvers = valid_approvers(record, authority.name, context.roles)
        if record.state is ApprovalState.ISSUED or len(approvers) >= record.needed:
            return Approval(request=record.id, approvers=approvers)
        await self._store.append_audit([audit])
        return self._waiting(context, authority, record)

    async def pending(self, context: Context, request: PendingRequest) -> PendingAnswer:
        """Return a page of what waits at a CA and everyone in the chain may approve; or one
        request, with its CSR. Raises NotFound.
        """
        authority = self._authorities.online(request.authority)
        if request.approval is not None:
            record = await self._one(
                authority,
                request.approval,
                tenants=approvable_by(context.roles, context.origin),
                profiles=self._profiles(context),
            )
            described = self._description(context, authority, record, csr=record.csr)
            return PendingAnswer(requests=(described,), after=None)
        limit = min(max(request.limit, 1), _MOST_LISTED)
        records = await self._store.approvals(
            ApprovalQuery(
                authority_ids=(authority.authority_id,),
                tenants=approvable_by(context.roles, context.origin),
                profiles=self._profiles(context),
                waiting_at=int(self._clock.now()),
                limit=limit,
                after=decode_approval_cursor(request.after),
            )
        )
        return PendingAnswer(
            requests=tuple(
                self._description(context, authority, record)
                for record in records
                if is_current(record, self._authorities)
            ),
            after=_cursor(records, limit),
        )

    async def approve(self, context: Context, request: ApproveRequest) -> VerdictAnswer:
        """Count the requester's approval. Approving again changes nothing.

        Raises SelfApproval; NotFound; Conflict when the request has ended, or isn't what would be
        issued any more.
        """
        authority = self._authorities.online(request.authority)
        record = await self._current(context, authority, request)
        approver = _approver(context)
        if approver == record.requester.casefold():
            raise SelfApproval(
                "who asked for a certificate can't approve it, at whichever RA",
                field="approval",
                remedy="have somebody else approve it, under a requester name of their own",
            )
        before = valid_approvers(record, authority.name, context.roles)
        vote = Vote(approver=approver, chain=encode_chain(context.chain), at=int(self._clock.now()))
        audit = _audit(context, record, "approved")
        record = await self._store.add_vote(record.id, vote, audit)
        return self._verdict(context, authority, record, changed=approver not in before)

    async def reject(self, context: Context, request: RejectRequest) -> VerdictAnswer:
        """End a request for good. Raises NotFound, Conflict when it has ended."""
        authority = self._authorities.online(request.authority)
        record = await self._named(context, authority, request)
        return await self._end(
            context, authority, record, ApprovalState.REJECTED, reason=request.reason
        )

    async def withdraw(self, context: Context, request: WithdrawRequest) -> VerdictAnswer:
        """End a request of the asker's own, asked at the same RA. Raises NotFound, Conflict."""
        authority = self._authorities.online(request.authority)
        record = await self._one(
            authority,
            request.approval,
            profiles=(request.profile,),
            asker=(context.origin.node.uri, context.requester),
        )
        return await self._end(context, authority, record, ApprovalState.WITHDRAWN)

    async def listed(self, wanted: ApprovalSelection, roles: RoleSet) -> list[ApprovalView]:
        """Return requests at this node's CAs for its operator. Raises NotFound for another CA."""
        names = [wanted.authority] if wanted.authority else self._authorities.names()
        authorities = {one.authority_id: one.name for one in map(self._authorities.get, names)}
        records = await self._store.approvals(
            ApprovalQuery(
                authority_ids=tuple(authorities),
                waiting_at=None if wanted.ended else int(self._clock.now()),
                limit=wanted.limit,
            )
        )
        return [self._view(one, authorities[one.authority_id], roles) for one in records]

    async def shown(self, approval: bytes, roles: RoleSet) -> ApprovalView:
        """Return one request with its CSR for the operator. Raises NotFound."""
        record = await self._store.approval(approval)
        if record is None:
            raise _absent()
        for name in self._authorities.names():
            if self._authorities.get(name).authority_id == record.authority_id:
                return self._view(record, name, roles, with_csr=True)
        raise _absent()

    def _view(
        self, record: ApprovalRecord, authority: str, roles: RoleSet, *, with_csr: bool = False
    ) -> ApprovalView:
        counting = valid_approvers(record, authority, roles)
        return approval_view(
            record,
            authority=authority,
            counting=counting,
            state=self._state(record, len(counting)),
            with_csr=with_csr,
        )

    def _state(self, record: ApprovalRecord, given: int) -> str:
        if record.state is not ApprovalState.WAITING:
            return record.state.value
        if record.expires_at <= self._clock.now():
            return "expired"
        if not is_current(record, self._authorities):
            return "outdated"
        return "approved" if given >= record.needed else "waiting"

    def _new(
        self,
        context: Context,
        authority: LoadedAuthority,
        request: EnrollRequest,
        prepared: ToBeSigned,
        spec: CertificateProfileSpec,
    ) -> ApprovalRecord:
        digest, now = profile_digest(spec), int(self._clock.now())
        tenant = tenancy_of(context.roles, context.origin).tenant
        return ApprovalRecord(
            id=approval_id(
                authority.authority_id,
                digest,
                tenant=tenant,
                request_id=context.request_id,
                request_digest=context.request_digest,
            ),
            authority_id=authority.authority_id,
            profile=request.profile,
            profile_digest=digest,
            request_id=context.request_id,
            request_digest=context.request_digest,
            origin=context.origin.node.uri,
            via=" ".join(peer.node.uri for peer in context.via),
            tenant=tenant,
            requester=context.requester,
            csr=request.csr,
            validity_seconds=request.validity_seconds,
            subject=format_name(prepared.subject),
            names=tuple(value for _, value in prepared.names),
            needed=spec.approvals,
            opened_at=now,
            expires_at=now + spec.approval_expiry_seconds,
        )

    async def _is_answered(self, context: Context) -> bool:
        """Tell whether the request has its certificate. Raises Conflict when another one has."""
        record = await self._store.certificate_by_request(
            context.origin.node.uri, context.request_id
        )
        if record is not None and record.request_digest != context.request_digest:
            raise Conflict("the request id was used for another request")
        return record is not None

    def _check_goes_on(self, record: ApprovalRecord) -> None:
        remedy = "ask again with a new request id, if it is still wanted"
        match record.state:
            case ApprovalState.REJECTED:
                why = f": {record.reason}" if record.reason else ""
                raise ApprovalEnded(f"an approver rejected the request{why}", remedy=remedy)
            case ApprovalState.WITHDRAWN:
                raise ApprovalEnded("the request was withdrawn", remedy=remedy)
            case ApprovalState.WAITING if record.expires_at <= self._clock.now():
                raise ApprovalEnded("the request was not approved in time", remedy=remedy)

    def _profiles(self, context: Context) -> tuple[str, ...]:
        """Return the profiles with approvals that everyone in the chain is granted."""
        return tuple(
            spec.name
            for spec in self._authorities.profile_specs()
            if spec.approvals and context.permits(f"/profile/{spec.name}")
        )

    async def _one(
        self,
        authority: LoadedAuthority,
        request: bytes,
        *,
        profiles: tuple[str, ...],
        tenants: tuple[str, ...] | None = None,
        asker: tuple[str, str] | None = None,
    ) -> ApprovalRecord:
        """Return one request of these. The store leaves out all others, so that what is another's
        costs no more than what never was. Raises NotFound.
        """
        found = await self._store.approvals(
            ApprovalQuery(
                authority_ids=(authority.authority_id,),
                request=request,
                tenants=tenants,
                profiles=profiles,
                asker=asker,
                limit=1,
            )
        )
        if not found:
            raise _absent()
        return found[0]

    async def _named(
        self, context: Context, authority: LoadedAuthority, request: ApproveRequest | RejectRequest
    ) -> ApprovalRecord:
        return await self._one(
            authority,
            request.approval,
            tenants=approvable_by(context.roles, context.origin),
            profiles=(request.profile,),
        )

    async def _current(
        self, context: Context, authority: LoadedAuthority, request: ApproveRequest
    ) -> ApprovalRecord:
        record = await self._named(context, authority, request)
        if not is_current(record, self._authorities):
            raise Conflict(
                f"the profile {record.profile!r} has been replaced since this was asked: "
                "once its requester asks again, it waits as a new request"
            )
        return record

    async def _end(
        self,
        context: Context,
        authority: LoadedAuthority,
        record: ApprovalRecord,
        state: ApprovalState,
        *,
        reason: str = "",
    ) -> VerdictAnswer:
        audit = _audit(context, record, state.value, reason=reason)
        ended = await self._store.end_approval(
            record.id, state, by=context.requester, reason=reason, audit=audit
        )
        return self._verdict(context, authority, ended, changed=True)

    def _waiting(
        self, context: Context, authority: LoadedAuthority, record: ApprovalRecord
    ) -> Waiting:
        return Waiting(
            approval=record.id,
            given=len(valid_approvers(record, authority.name, context.roles)),
            needed=record.needed,
            expires_at=record.expires_at,
        )

    def _verdict(
        self, context: Context, authority: LoadedAuthority, record: ApprovalRecord, *, changed: bool
    ) -> VerdictAnswer:
        return VerdictAnswer(
            state=record.state.value,
            given=len(valid_approvers(record, authority.name, context.roles)),
            needed=record.needed,
            expires_at=record.expires_at,
            changed=changed,
        )

    def _description(
        self,
        context: Context,
        authority: LoadedAuthority,
        record: ApprovalRecord,
        *,
        csr: bytes = b"",
    ) -> PendingDescription:
        return PendingDescription(
            approval=record.id,
            authority=authority.name,
            profile=record.profile,
            requester=record.requester,
            origin=record.origin,
            subject=record.subject,
            names=record.names,
            validity_seconds=record.validity_seconds,
            opened_at=record.opened_at,
            expires_at=record.expires_at,
            needed=record.needed,
            approvers=valid_approvers(record, authority.name, context.roles),
            csr=csr,
        )


def valid_approvers(record: ApprovalRecord, authority: str, roles: RoleSet) -> tuple[str, ...]:
    """Return whose approvals count under ``roles``, in the order in which they were given."""
    resources = APPROVE.resources(
        ApproveRequest(authority=authority, profile=record.profile, approval=record.id)
    )
    chains = ((vote.approver, chain_of(vote.chain)) for vote in record.votes)
    return tuple(
        approver
        for approver, chain in chains
        if decide_chain(APPROVE, resources, chain, roles).allowed
        and _may_decide(roles, chain[0], record)
    )


def is_current(record: ApprovalRecord, authorities: Authorities) -> bool:
    """Tell whether the profile still is what it was when the request was made."""
    try:
        spec = authorities.profile_spec(record.profile)
    except NotFound:
        return False
    return profile_digest(spec) == record.profile_digest


def _may_decide(roles: RoleSet, approver: PeerIdentity, record: ApprovalRecord) -> bool:
    """Tell whether the request is of a tenant for which the approver's RA may bring verdicts."""
    tenants = approvable_by(roles, approver)
    return tenants is None or record.tenant in tenants


def _approver(context: Context) -> str:
    """Return who approves. One name is one person, whichever RA says it and in whichever case."""
    if not context.requester:
        raise RequestRefused("an approval names who gives it", field="requester")
    return context.requester.casefold()


def _cursor(records: list[ApprovalRecord], limit: int) -> str | None:
    """Return where the list goes on: behind the last one read, shown or not."""
    if len(records) < limit:
        return None
    return encode_approval_cursor((records[-1].opened_at, records[-1].id))


def _absent() -> NotFound:
    return NotFound("no such request waits for approval")


def _audit(
    context: Context, record: ApprovalRecord, outcome: str, *, reason: str = ""
) -> AuditRecord:
    detail = {
        "approval": record.id.hex(),
        "authority_id": record.authority_id,
        "profile": record.profile,
        "tenant": record.tenant,
        "requester": record.requester,
        "subject": record.subject,
        "outcome": outcome,
        **({"why": reason} if reason else {}),
    }
    return with_detail(context.audit_record, detail)
