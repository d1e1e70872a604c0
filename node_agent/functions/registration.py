"""The RA: who the requester is, whether its request is sound, and whom to send it to.

The RA decides what its requesters may ask for; the CA decides again what this RA may ask for. An
allowed request is audited at the CA, in the transaction of what it did, with the requester's name;
a denied one here, because it goes nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from node_agent.errors import AwaitsApproval, PolicyDenied
from node_agent.functions.encoding import (
    certificate_pem,
    chain_pem,
    reason_name,
)
from node_agent.functions.registration_approvals import RegistrationApprovals
from node_agent.objects import RequesterSpec
from node_agent.peers.operations import (
    ENROLL,
    REVOKE,
    SEARCH,
    STATUS,
    CertificateDescription,
    EnrollRequest,
    Operation,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
    serial_number,
    serial_octets,
)
from node_agent.pki.csr import parse_csr
from node_agent.policy import AccessRequest, RoleSet, decide, refuse_names
from node_agent.policy import Requester as RequesterSubject
from node_agent.store.records import AuditRecord
from node_agent.web.backends import (
    REASON_NUMBERS,
    Catalogue,
    CatalogueAuthority,
    CertificateFilter,
    CertificateInfo,
    CertificatePage,
    Credential,
    EnrollCall,
    EnrollOutcome,
    Requester,
    RevocationOrder,
    RevocationOutcome,
)
from node_agent.web.credentials import CredentialTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import msgspec

    from node_agent.clock import Clock
    from node_agent.functions.node_objects import NodeObjects
    from node_agent.functions.peer_calls import PeerCalls
    from node_agent.functions.upstreams import Upstreams
    from node_agent.peers.approval_messages import Waiting

__all__ = ["Registration"]

# A client of the REST interface waits this long at most; its own retry keeps the request id.
_REQUEST_SECONDS = 25.0
# People approve: asking more often only makes the audit log longer.
_ASK_AGAIN_SECONDS = 30


class Registration:
    """Implements ``web.backends.RegistrationBackend``."""

    def __init__(
        self,
        *,
        objects: NodeObjects,
        roles: Callable[[], RoleSet],
        caller: PeerCalls,
        upstreams: Upstreams,
        audit: Callable[[AuditRecord], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._roles = roles
        self._caller = caller
        self._upstreams = upstreams
        self._audit = audit
        self._clock = clock
        self.approvals = RegistrationApprovals(ask=self._ask, roles=roles)
        self.configure()

    def configure(self) -> None:
        """Take over the requesters as they now are."""
        self._credentials = CredentialTable(self._objects.specs("requesters", RequesterSpec))

    def authenticate(self, credential: Credential) -> Requester | None:
        """Return who holds ``credential``."""
        return self._credentials.find(credential)

    async def enroll(self, requester: Requester, call: EnrollCall) -> EnrollOutcome:
        """Return the certificate for a CSR. Raises AwaitsApproval until people have approved it."""
        request = EnrollRequest(
            authority=call.authority,
            profile=call.profile,
            csr=call.csr,
            protocol=call.protocol,
            validity_seconds=call.validity_seconds,
        )
        await self._check(requester, ENROLL, request)
        # A CSR that the CA would refuse isn't worth a credit of the link.
        csr = parse_csr(call.csr)
        common = (value for attribute, value in csr.subject if attribute == "common_name")
        subject = RequesterSubject(requester.name)
        reason = refuse_names((subject,), csr.alternative_names, common, self._roles())
        if reason is not None:
            await self._deny(requester, ENROLL, ENROLL.resources(request), reason, rule="names")
        answer = await self._send(requester, ENROLL, request, call.authority, call.request_id)
        if answer.waiting is not None:
            raise _awaits(answer.waiting)
        return EnrollOutcome(answer.chain, answer.repeated)

    async def revoke(
        self, requester: Requester, authority: str, serial: int, order: RevocationOrder
    ) -> RevocationOutcome:
        """Revoke, hold or release a certificate."""
        request = RevokeRequest(
            authority=authority,
            serial=serial_octets(serial),
            reason=REASON_NUMBERS[order.reason],
            invalidity_at=order.invalidity_at,
        )
        answer = await self._ask(requester, REVOKE, request, authority)
        return RevocationOutcome(
            changed=answer.changed,
            status=answer.status,
            revoked_at=answer.revoked_at,
            reason=reason_name(answer.reason),
            position=answer.position,
        )

    async def status(self, requester: Requester, authority: str, serial: int) -> CertificateInfo:
        """Return one certificate."""
        request = StatusRequest(authority=authority, serial=serial_octets(serial))
        return certificate_info(await self._ask(requester, STATUS, request, authority))

    async def search(self, requester: Requester, query: CertificateFilter) -> CertificatePage:
        """Return one page of matches."""
        authority = query.authority or ""
        request = SearchRequest(
            authority=authority,
            name=query.name,
            status=query.status,
            profile=query.profile,
            requester=query.requester,
            expires_before=query.expires_before,
            limit=query.limit,
            after=query.after,
        )
        answer = await self._ask(requester, SEARCH, request, authority)
        return CertificatePage(
            certificates=tuple(certificate_info(item) for item in answer.certificates),
            next=answer.after,
        )

    async def catalogue(self, requester: Requester) -> Catalogue:
        """Return the CAs and profiles that the requester may enrol with, here and upstream."""
        subject = RequesterSubject(requester.name)
        roles = self._roles()
        return Catalogue(
            authorities=tuple(
                CatalogueAuthority(
                    name=offer.name,
                    chain=chain_pem(offer.chain),
                    profiles=tuple(
                        profile
                        for profile in offer.profiles
                        if roles.permits(subject, f"/profile/{profile}")
                    ),
                )
                for offer in await self._upstreams.catalogue()
                if roles.permits(subject, f"/ca/{offer.name}")
            )
        )

    async def _check(
        self, requester: Requester, operation: Operation[Any, Any], request: msgspec.Struct
    ) -> None:
        resources = operation.resources(request)
        subject = RequesterSubject(requester.name)
        decision = decide(AccessRequest(operation.method, resources, (subject,)), self._roles())
        if not decision.allowed:
            await self._deny(requester, operation, resources, decision.reason, rule=decision.rule)

    async def _deny(
        self,
        requester: Requester,
        operation: Operation[Any, Any],
        resources: tuple[str, ...],
        reason: str,
        *,
        rule: str,
    ) -> NoReturn:
        await self._audit(
            AuditRecord(
                at=self._clock.now(),
                action=operation.method,
                allowed=False,
                chain=requester.name,
                resources=resources,
                reason=reason,
            )
        )
        raise PolicyDenied(reason, rule=rule)

    async def _ask(
        self,
        requester: Requester,
        operation: Operation[Any, Any],
        request: msgspec.Struct,
        authority: str,
    ) -> Any:
        await self._check(requester, operation, request)
        return await self._send(requester, operation, request, authority)

    async def _send(
        self,
        requester: Requester,
        operation: Operation[Any, Any],
        request: msgspec.Struct,
        authority: str,
        request_id: bytes | None = None,
    ) -> Any:
        return await self._caller.call(
            operation,
            request,
            peers=self._upstreams.serving(authority),
            request_id=request_id,
            requester=requester.name,
            timeout_seconds=_REQUEST_SECONDS,
        )


def _awaits(waiting: Waiting) -> AwaitsApproval:
    return AwaitsApproval(
        approval=waiting.approval.hex(),
        given=waiting.given,
        needed=waiting.needed,
        expires_at=waiting.expires_at,
        retry_after_seconds=_ASK_AGAIN_SECONDS,
    )


def certificate_info(item: CertificateDescription) -> CertificateInfo:
    """Return a certificate as the REST interface shows it."""
    return CertificateInfo(
        authority=item.authority,
        serial=f"{serial_number(item.serial):x}",
        subject=item.subject,
        names=item.names,
        profile=item.profile,
        requester=item.requester,
        not_before=item.not_before,
        not_after=item.not_after,
        status=item.status,  # type: ignore[arg-type]  # read as one of these words
        revoked_at=item.revoked_at,
        reason=reason_name(item.reason),
        certificate=certificate_pem(item.der) if item.der else None,
    )
