"""The CA's answers to peers: enrol, revoke, status, search, catalogue, certify a signer.

The dispatcher has decided before any of these runs. Each change commits what it did, its
change-log entry, its request id and its audit entry in one transaction, and only then answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from node_agent.clock import LAST_SECOND
from node_agent.errors import Conflict, NotFound, PolicyDenied, QuotaExceeded, RequestRefused
from node_agent.functions.approvals import Approvals
from node_agent.functions.certificate_records import (
    Provenance,
    approved_by,
    audit_detail,
    issued_row,
    with_detail,
)
from node_agent.functions.change_payloads import encode, status_payload
from node_agent.functions.encoding import decode_cursor, encode_cursor, reason_name
from node_agent.functions.signer_limit import SignerLimit
from node_agent.peers.approval_messages import Waiting
from node_agent.peers.operations import (
    AuthorityDescription,
    CatalogueAnswer,
    CatalogueRequest,
    CertificateAnswer,
    CertificateDescription,
    CertifySignerRequest,
    EnrollRequest,
    RevokeAnswer,
    RevokeRequest,
    SearchAnswer,
    SearchRequest,
    StatusRequest,
    serial_number,
    serial_octets,
)
from node_agent.pki.authorities import prepare_ocsp_signer
from node_agent.pki.csr import parse_csr
from node_agent.pki.issue import ToBeSigned, prepare
from node_agent.pki.revoke import Reason
from node_agent.policy import refuse_names, tenancy_of
from node_agent.store.records import (
    AuditRecord,
    CertificateQuery,
    CertificateQuota,
    CertificateRecord,
    CertificateStatus,
    StatusChange,
)
from node_agent.store.records import StatusRequest as StatusAsked
from node_agent.web.backends import RevocationOrder, RevocationOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.functions.signal import ChangeSignal
    from node_agent.peers.dispatcher import Context
    from node_agent.policy import Tenancy
    from node_agent.store.api import Writer
    from node_agent.store.records import Approval

__all__ = ["AuthorityService"]

ItemT = TypeVar("ItemT")

_SECONDS_PER_DAY = 86400
# RFC 6960 section 4.2.2.2.1: with nocheck a signer's life bounds the damage of a stolen key.
_SIGNER_VALIDITY_SECONDS = 30 * _SECONDS_PER_DAY
_MOST_SEARCHED = 1000
# An answer is one message, of 4 MiB at most; ML-DSA certificates have 7 KiB and more each.
_PAGE_OCTETS = 2 * 1024 * 1024
# What a description takes besides the octets and texts that are counted.
_FIELDS_OCTETS = 256


class AuthorityService:
    """Handlers of the CA's operations; those about approvals are ``approvals``.

    ``on_revoked`` is told the CA whose list has changed, ``on_status`` the certificate (authority
    id and serial), before anyone is answered.
    """

    def __init__(
        self,
        *,
        store: Writer,
        authorities: Authorities,
        changed: ChangeSignal,
        on_revoked: Callable[[LoadedAuthority], None],
        on_status: Callable[[str, int], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self.approvals = Approvals(store=store, authorities=authorities, clock=clock)
        self._signers = SignerLimit(store, clock)
        self._store = store
        self._authorities = authorities
        self._changed = changed
        self._on_revoked = on_revoked
        self._on_status = on_status
        self._clock = clock

    async def enroll(self, context: Context, request: EnrollRequest) -> CertificateAnswer:
        """Issue a certificate, or return the one that this request id was answered with, or what
        it waits for.

        Raises CsrRefused, ProfileViolation, LintFailed, ApprovalEnded; PolicyDenied for a name that
        somebody on the way may not ask for; Conflict for a request id that was used for something
        else.
        """
        authority = self._authorities.online(request.authority)
        try:
            prepared = self._admit(authority, request)
        except RequestRefused as refusal:
            # What was issued stays issued, also when the profile has become stricter since.
            return await self._repeated(context, authority, refusal)
        _check_names(context, prepared)
        permit = await self.approvals.permit(context, authority, request, prepared)
        if isinstance(permit, Waiting):
            return CertificateAnswer(chain=(), waiting=permit)
        owner = tenancy_of(context.roles, context.origin)
        return await self._issue(context, authority, prepared, permit, owner)

    async def certify_signer(
        self, context: Context, request: CertifySignerRequest
    ) -> CertificateAnswer:
        """Certify a VA's OCSP signing key; the certificate names the VA that asked.

        Raises CsrRefused; QuotaExceeded when the VA has too many.
        """
        authority = self._authorities.online(request.authority)
        common_name = f"OCSP {request.authority} {context.origin.node.name}"
        prepared = prepare_ocsp_signer(
            authority.issuer,
            parse_csr(request.csr).spki,
            common_name=common_name,
            now=int(self._clock.now()),
            validity_seconds=_SIGNER_VALIDITY_SECONDS,
        )
        async with self._signers.turn:
            try:
                origin = context.origin.node.uri
                await self._signers.check(authority.authority_id, origin, common_name)
            except QuotaExceeded as refusal:
                return await self._repeated(context, authority, refusal)
            return await self._issue(context, authority, prepared)

    async def revoke(self, context: Context, request: RevokeRequest) -> RevokeAnswer:
        """Revoke, hold or release. Asking for what is so already changes nothing.

        Raises NotFound; Conflict when a revocation would be undone; RequestRefused for an
        unknown reason.
        """
        authority = self._authorities.online(request.authority)
        reason = Reason.parse(request.reason)
        change = self._status_change(
            authority, serial_number(request.serial), reason, request.invalidity_at
        )
        asked = StatusAsked(
            origin=context.origin.node.uri,
            request_id=context.request_id,
            digest=context.request_digest,
        )
        change = replace(change, tenants=_visible_to(context))
        answer = await self._record_once(authority, change, context.audit_record, asked)
        # The log's length counts what this node does for everybody: not a tenant's business.
        return msgspec.structs.replace(answer, position=0)

    async def status(self, context: Context, request: StatusRequest) -> CertificateDescription:
        """Return one certificate. Raises NotFound."""
        authority = self._authorities.online(request.authority)
        serial, tenants = serial_number(request.serial), _visible_to(context)
        return _description(request.authority, await self._find(authority, serial, tenants))

    async def search(self, context: Context, request: SearchRequest) -> SearchAnswer:
        """Return one page of a CA's certificates, newest first: as many as were asked for, or as
        fit an answer.
        """
        authority = self._authorities.online(request.authority)
        limit = min(max(request.limit, 1), _MOST_SEARCHED)
        records = await self._store.search(
            CertificateQuery(
                authority_ids=(authority.authority_id,),
                tenants=_visible_to(context),
                name=request.name,
                status=_status(request.status),
                profile=request.profile,
                requester=request.requester,
                expires_before=request.expires_before,
                limit=limit,
                after=decode_cursor(request.after),
            )
        )
        found = [_description(request.authority, record) for record in records]
        fitting = _fitting(found, _octets_of_certificate)
        is_end = fitting == len(records) < limit
        return SearchAnswer(
            certificates=tuple(found[:fitting]),
            after=None if is_end else _cursor(records[fitting - 1]),
        )

    async def catalogue(self, context: Context, request: CatalogueRequest) -> CatalogueAnswer:
        """Return the CAs and profiles that everyone on the way is granted, a page of them."""
        offers, octets, after = list[AuthorityDescription](), 0, request.after or ""
        for offer in self._offers(context, after):
            octets += _octets_of_offer(offer)
            if offers and octets > _PAGE_OCTETS:
                return CatalogueAnswer(authorities=tuple(offers), after=offers[-1].name)
            offers.append(offer)
        return CatalogueAnswer(authorities=tuple(offers))

    async def revoke_locally(
        self, name: str, serial: int, order: RevocationOrder, *, caller: str
    ) -> RevocationOutcome:
        """Revoke a certificate of any CA of this node, the management CA's too."""
        authority = self._authorities.get(name)
        reason = Reason.parse(order.reason)
        change = self._status_change(authority, serial, reason, order.invalidity_at)
        audit = AuditRecord(
            at=self._clock.now(),
            action="manage.revoke",
            allowed=True,
            chain=caller,
            resources=(f"/ca/{name}",),
        )
        answer = await self._record(authority, change, audit)
        return RevocationOutcome(
            changed=answer.changed,
            status=CertificateStatus(answer.status).value,
            revoked_at=answer.revoked_at,
            reason=reason_name(answer.reason),
            position=answer.position,
        )

    def _admit(self, authority: LoadedAuthority, request: EnrollRequest) -> ToBeSigned:
        profile = self._authorities.profile(authority, request.profile)
        admitted = profile.admit(parse_csr(request.csr), validity_seconds=request.validity_seconds)
        return prepare(authority.issuer, admitted, now=int(self._clock.now()))

    async def _repeated(
        self, context: Context, authority: LoadedAuthority, refusal: RequestRefused
    ) -> CertificateAnswer:
        """Return what the request id was answered with; raise ``refusal`` if with nothing."""
        record = await self._store.certificate_by_request(
            context.origin.node.uri, context.request_id
        )
        if record is None or record.request_digest != context.request_digest:
            raise refusal
        await self._audit_repeat(context, record)
        return CertificateAnswer(chain=(record.der, *authority.chain_below_root), repeated=True)

    async def _issue(
        self,
        context: Context,
        authority: LoadedAuthority,
        prepared: ToBeSigned,
        approval: Approval | None = None,
        owner: Tenancy | None = None,
    ) -> CertificateAnswer:
        issued = await self._authorities.sign(prepared)
        provenance = _provenance(context, owner)
        record, payload = issued_row(
            issued, issued_at=int(self._clock.now()), provenance=provenance
        )
        audit = with_detail(context.audit_record, {**audit_detail(record), **approved_by(approval)})
        outcome = await self._store.record_issuance(
            record, payload, audit, approval=approval, quota=_quota(owner)
        )
        if outcome.repeated:
            await self._audit_repeat(context, outcome.certificate)
        self._changed.announce()
        return CertificateAnswer(
            chain=(outcome.certificate.der, *authority.chain_below_root),
            repeated=outcome.repeated,
        )

    async def _audit_repeat(self, context: Context, record: CertificateRecord) -> None:
        """Every decision leaves an entry, also one that only repeated an answer."""
        detail = {**audit_detail(record), "outcome": "repeated"}
        await self._store.append_audit([with_detail(context.audit_record, detail)])

    def _status_change(
        self, authority: LoadedAuthority, serial: int, reason: Reason, invalidity_at: int | None
    ) -> StatusChange:
        if invalidity_at is not None and not 0 <= invalidity_at <= LAST_SECOND:
            raise RequestRefused(
                f"{invalidity_at} is no time that a CRL can write",
                field="invalidity_at",
                remedy="write seconds since 1970",
            )
        return StatusChange(
            authority_id=authority.authority_id,
            serial=serial,
            status=_status_of_reason(reason),
            at=int(self._clock.now()),
            reason=None if reason is Reason.REMOVE_FROM_CRL else int(reason),
            invalidity_at=invalidity_at,
        )

    async def _record(
        self, authority: LoadedAuthority, change: StatusChange, audit: AuditRecord
    ) -> RevokeAnswer:
        detail = {"serial": f"{change.serial:x}", "status": change.status.value}
        payload = encode(status_payload(change))
        try:
            position = await self._store.record_status(change, payload, with_detail(audit, detail))
        except Conflict as conflict:
            return await self._unchanged(authority, change, conflict, audit)
        self._changed.announce()
        self._on_revoked(authority)
        await self._on_status(change.authority_id, change.serial)
        revoked_at = None if change.status is CertificateStatus.GOOD else change.at
        return RevokeAnswer(
            status=change.status.value,
            revoked_at=revoked_at,
            reason=change.reason,
            position=position,
            changed=True,
        )

    async def _record_once(
        self,
        authority: LoadedAuthority,
        change: StatusChange,
        audit: AuditRecord,
        asked: StatusAsked,
    ) -> RevokeAnswer:
        """Carry out a peer's request, or answer what it was answered with by whichever node."""
        detail = {"serial": f"{change.serial:x}", "status": change.status.value}
        outcome = await self._store.record_status_once(
            change, encode(status_payload(change)), with_detail(audit, detail), asked
        )
        if outcome.repeated:
            repeated = {**detail, "outcome": "repeated"}
            await self._store.append_audit([with_detail(audit, repeated)])
        if outcome.position == 0:
            return await self._as_it_is(authority, change, audit, is_new=not outcome.repeated)
        if not outcome.repeated:
            self._changed.announce()
            self._on_revoked(authority)
            await self._on_status(change.authority_id, change.serial)
        is_good = change.status is CertificateStatus.GOOD
        return RevokeAnswer(
            status=change.status.value,
            revoked_at=None if is_good else outcome.at,
            reason=change.reason,
            position=outcome.position,
            changed=True,
        )

    async def _unchanged(
        self,
        authority: LoadedAuthority,
        change: StatusChange,
        conflict: Conflict,
        audit: AuditRecord,
    ) -> RevokeAnswer:
        """Answer that it is so already; raise ``conflict`` when it isn't."""
        record = await self._find(authority, change.serial)
        if record.status is not change.status:
            raise conflict
        return await self._as_it_is(authority, change, audit, is_new=True)

    async def _as_it_is(
        self,
        authority: LoadedAuthority,
        change: StatusChange,
        audit: AuditRecord,
        *,
        is_new: bool,
    ) -> RevokeAnswer:
        record = await self._find(authority, change.serial)
        if is_new:
            detail = {"serial": f"{change.serial:x}", "outcome": "unchanged"}
            await self._store.append_audit([with_detail(audit, detail)])
        return RevokeAnswer(
            status=record.status.value,
            revoked_at=record.revoked_at,
            reason=record.reason,
            position=0,
            changed=False,
        )

    async def _find(
        self, authority: LoadedAuthority, serial: int, tenants: tuple[str, ...] | None = None
    ) -> CertificateRecord:
        """Return a certificate; where ``tenants`` are given, another's is as one that never was."""
        record = await self._store.certificate(authority.authority_id, serial)
        if record is None or (tenants is not None and record.tenant not in tenants):
            raise NotFound(f"the CA {authority.name!r} has issued no certificate {serial:x}")
        return record

    def _offers(self, context: Context, after: str) -> Iterable[AuthorityDescription]:
        for name in sorted(self._authorities.names()):
            # Asked first: a CA is loaded only for somebody who may see it.
            if name <= after or not context.permits(f"/ca/{name}"):
                continue
            authority = self._authorities.get(name)
            if authority.spec.kind != "management" and not authority.is_offline:
                profiles = (p for p in authority.spec.profiles if context.permits(f"/profile/{p}"))
                yield AuthorityDescription(
                    name=name, chain=authority.chain, profiles=tuple(profiles)
                )


def _status_of_reason(reason: Reason) -> CertificateStatus:
    match reason:
        case Reason.REMOVE_FROM_CRL:
            return CertificateStatus.GOOD
        case Reason.CERTIFICATE_HOLD:
            return CertificateStatus.ON_HOLD
        case _:
            return CertificateStatus.REVOKED


def _status(text: str | None) -> CertificateStatus | None:
    try:
        return None if text is None else CertificateStatus(text)
    except ValueError as error:
        raise RequestRefused(
            f"{text!r} is not a status", field="status", remedy="use good, on_hold or revoked"
        ) from error


def _check_names(context: Context, prepared: ToBeSigned) -> None:
    """Hold everyone on the way to the names that they may ask for. Raises PolicyDenied."""
    common = (value for attribute, value in prepared.subject if attribute == "common_name")
    chain = (context.origin, *context.via)
    reason = refuse_names(chain, prepared.names, common, context.roles)
    if reason is not None:
        raise PolicyDenied(reason, rule="names")


def _visible_to(context: Context) -> tuple[str, ...] | None:
    """Return whose certificates the asker may see: the one rule for search, status, revocation."""
    return tenancy_of(context.roles, context.origin).visible


def _quota(owner: Tenancy | None) -> CertificateQuota | None:
    if owner is None or not owner.tenant:
        return None
    return CertificateQuota(
        max_issued=owner.quota.max_issued_certificates,
        issued_period_seconds=owner.quota.issued_period_seconds,
        max_valid=owner.quota.max_valid_certificates,
    )


def _provenance(context: Context, owner: Tenancy | None) -> Provenance:
    return Provenance(
        requester=context.requester,
        origin=context.origin.node.uri,
        via=" ".join(peer.node.uri for peer in context.via),
        tenant="" if owner is None else owner.tenant,
        request_id=context.request_id,
        request_digest=context.request_digest,
    )


def _description(authority: str, record: CertificateRecord) -> CertificateDescription:
    return CertificateDescription(
        authority=authority,
        serial=serial_octets(record.serial),
        subject=record.subject,
        names=record.names,
        profile=record.profile,
        requester=record.requester,
        not_before=record.not_before,
        not_after=record.not_after,
        status=record.status.value,
        revoked_at=record.revoked_at,
        reason=record.reason,
        der=record.der,
    )


def _cursor(last: CertificateRecord) -> str | None:
    return encode_cursor((last.issued_at, last.authority_id, last.serial))


def _fitting(found: Sequence[ItemT], octets_of: Callable[[ItemT], int]) -> int:
    """Return how many of ``found`` fit an answer, at least one if there is any."""
    octets = 0
    for count, item in enumerate(found):
        octets += octets_of(item)
        if octets > _PAGE_OCTETS and count:
            return count
    return len(found)


def _octets_of_certificate(item: CertificateDescription) -> int:
    texts = (item.authority, item.subject, *item.names, item.profile, item.requester)
    return _FIELDS_OCTETS + len(item.der) + sum(_octets_of_text(text) for text in texts)


def _octets_of_offer(item: AuthorityDescription) -> int:
    texts = (item.name, *item.profiles)
    return _FIELDS_OCTETS + sum(map(len, item.chain)) + sum(map(_octets_of_text, texts))


def _octets_of_text(text: str) -> int:
    """Return how much a text takes as MessagePack, at most."""
    return len(text.encode()) + 5
