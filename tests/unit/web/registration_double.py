"""An in-memory RegistrationBackend that really issues, from a throwaway CA."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.errors import AwaitsApproval, Conflict, CsrRefused, NotFound, PolicyDenied
from node_agent.web.backends import (
    ApprovalFilter,
    ApprovalPage,
    Catalogue,
    CatalogueAuthority,
    CertificateFilter,
    CertificateInfo,
    CertificatePage,
    Credential,
    EnrollCall,
    EnrollOutcome,
    PendingApproval,
    Requester,
    RevocationOrder,
    RevocationOutcome,
    VerdictOrder,
    VerdictOutcome,
)
from node_agent.web.credentials import CredentialTable
from tests.support.pki import CertificateDraft, ThrowawayAuthority, certificate_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.objects import RequesterSpec

__all__ = ["MemoryApprovals", "MemoryRegistration", "token_sha256"]


def token_sha256(token: str) -> str:
    """Return what a requester object stores of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class MemoryApprovals:
    """One approval for the profile ``approved``, by anybody; requests by their SHA-256."""

    def __init__(self, enter: Callable[[str, Requester], None]) -> None:
        self._enter = enter
        self.waiting: dict[bytes, EnrollCall] = {}
        self.given: set[bytes] = set()

    def check(self, call: EnrollCall) -> None:
        approval = hashlib.sha256(call.csr).digest()
        if call.profile != "approved" or approval in self.given:
            return
        self.waiting[approval] = call
        raise AwaitsApproval(
            approval=approval.hex(), given=0, needed=1, expires_at=2**33, retry_after_seconds=30
        )

    async def pending(self, requester: Requester, query: ApprovalFilter) -> ApprovalPage:
        self._enter("pending", requester)
        return ApprovalPage(requests=tuple(map(self._shown, self.waiting)), next=query.after)

    async def one(self, requester: Requester, authority: str, approval: bytes) -> PendingApproval:
        self._enter("one", requester)
        if approval not in self.waiting:
            raise NotFound("no such request waits for approval")
        return self._shown(approval)

    async def decide(
        self, requester: Requester, authority: str, approval: bytes, order: VerdictOrder
    ) -> VerdictOutcome:
        self._enter(f"{order.verdict} {order.reason}".rstrip(), requester)
        if approval not in self.waiting:
            raise NotFound("no such request waits for approval")
        self.given.add(approval)
        return VerdictOutcome(
            changed=True, state="waiting", approvals_given=1, approvals_needed=1, expires_at=2**33
        )

    def _shown(self, approval: bytes) -> PendingApproval:
        call = self.waiting[approval]
        return PendingApproval(
            approval=approval.hex(),
            authority=call.authority,
            profile=call.profile,
            requester="alice",
            origin="spiffe://test.example/node/ra1",
            subject="",
            names=(),
            validity_seconds=call.validity_seconds,
            opened_at=1,
            expires_at=2**33,
            approvals_needed=1,
            approvers=(),
        )


class MemoryRegistration:
    """One CA called ``issuing``; ``fault`` is raised by whatever is called next."""

    def __init__(self, *requesters: RequesterSpec) -> None:
        self.credentials = CredentialTable(requesters)
        self.root = ThrowawayAuthority("Root")
        self.issuing = ThrowawayAuthority("Issuing", parent=self.root)
        self.issued: dict[bytes, tuple[EnrollCall, EnrollOutcome]] = {}
        self.calls: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.approvals = MemoryApprovals(self._enter)

    def authenticate(self, credential: Credential) -> Requester | None:
        return self.credentials.find(credential)

    async def enroll(self, requester: Requester, call: EnrollCall) -> EnrollOutcome:
        self._enter("enroll", requester)
        if call.authority != "issuing":
            raise PolicyDenied(f"nothing grants /ca/{call.authority}", rule="/ca/issuing")
        if call.request_id in self.issued:
            first, outcome = self.issued[call.request_id]
            if first != call:
                raise Conflict("the request id was used for another request")
            return EnrollOutcome(outcome.chain, repeated=True)
        try:
            csr = x509.load_der_x509_csr(call.csr)
        except ValueError as error:
            raise CsrRefused("not a certification request", field="csr") from error
        self.approvals.check(call)
        draft = CertificateDraft(subject=csr.subject)
        certificate = self.issuing.issue(draft, csr)  # type: ignore[arg-type]  # has public_key()
        chain = (certificate, self.issuing.certificate)
        outcome = EnrollOutcome(tuple(item.public_bytes(Encoding.DER) for item in chain))
        self.issued[call.request_id] = (call, outcome)
        return outcome

    async def revoke(
        self, requester: Requester, authority: str, serial: int, order: RevocationOrder
    ) -> RevocationOutcome:
        self._enter("revoke", requester)
        return RevocationOutcome(changed=True, status="revoked", revoked_at=1, reason=order.reason)

    async def status(self, requester: Requester, authority: str, serial: int) -> CertificateInfo:
        self._enter("status", requester)
        raise NotFound(f"the store of ca1 has no {serial:x}")

    async def search(self, requester: Requester, query: CertificateFilter) -> CertificatePage:
        self._enter("search", requester)
        return CertificatePage(certificates=(), next=query.after)

    async def catalogue(self, requester: Requester) -> Catalogue:
        self._enter("catalogue", requester)
        chain = certificate_pem(self.issuing.certificate, self.root.certificate)
        entry = CatalogueAuthority(name="issuing", chain=chain, profiles=("server",))
        return Catalogue(authorities=(entry,))

    def _enter(self, verb: str, requester: Requester) -> None:
        self.calls.append((verb, requester.name))
        if self.fault is not None:
            raise self.fault
