"""Protocol x verb x in or out of scope, generated: what a tenant may ask, and everything near it.

EJBCA's holes were omissions for one protocol or one verb (CVE-2020-28942, CVE-2021-40088,
CVE-2022-34831), so each combination is tried, and what is out of scope is derived, not listed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node_agent.peers.approval_messages import (
    ApproveRequest,
    PendingRequest,
    RejectRequest,
    WithdrawRequest,
)
from node_agent.peers.operations import (
    APPROVE,
    CERTIFY_SIGNER,
    ENROLL,
    PENDING,
    REJECT,
    REVOKE,
    SEARCH,
    STATUS,
    WITHDRAW,
    CertifySignerRequest,
    EnrollRequest,
    Operation,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
)
from tests.support.hostile_requests import CSR

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROTOCOLS", "VERDICTS", "Try", "Victim", "tries"]

PROTOCOLS = ("rest", "est", "acme", "cmp", "", "admin")
"""Those that the policy knows, none at all, and one that doesn't exist."""

VERDICTS = (APPROVE, REJECT, WITHDRAW)
"""What is in scope of these finds no request that waits: there is none."""
_NO_REQUEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Victim:
    """What another tenant has. ``serial`` is filled in when there is a certificate."""

    authority: str = "other"
    profile: str = "private"


@dataclass(frozen=True, slots=True)
class Try:
    """One request. ``serial`` and ``approval`` in it are the test's own, or the victim's."""

    operation: Operation[Any, Any]
    protocol: str
    authority: str
    profile: str = "server"
    is_allowed: bool = False

    def __str__(self) -> str:
        return f"{self.operation.method} {self.protocol or '-'} {self.authority} {self.profile}"

    def request(self, serial: bytes, approval: bytes = _NO_REQUEST) -> Any:
        """Return the request about ``serial`` or ``approval``, where it is about one of these."""
        at: dict[str, Any] = {"authority": self.authority, "protocol": self.protocol}
        match self.operation.method:
            case ENROLL.method:
                return EnrollRequest(**at, profile=self.profile, csr=CSR)
            case REVOKE.method:
                return RevokeRequest(**at, serial=serial, reason=6)
            case STATUS.method:
                return StatusRequest(**at, serial=serial)
            case SEARCH.method:
                return SearchRequest(**at)
            case PENDING.method:
                return PendingRequest(**at, approval=None if approval == _NO_REQUEST else approval)
            case APPROVE.method:
                return ApproveRequest(**at, profile=self.profile, approval=approval)
            case REJECT.method:
                return RejectRequest(**at, profile=self.profile, approval=approval)
            case WITHDRAW.method:
                return WithdrawRequest(**at, profile=self.profile, approval=approval)
            case _:
                return CertifySignerRequest(authority=self.authority, csr=CSR)


def tries(own: str = "issuing", victim: Victim | None = None) -> Iterator[Try]:
    """Yield every combination; ``is_allowed`` for what a tenant of the CA ``own`` may do."""
    other = victim or Victim()
    authorities = (own, other.authority, "nowhere", "management", f"root-{own}", "**", f"{own}/x")
    profiles = ("server", other.profile, "nothing", "builtin.issuing", "*")
    for protocol, authority in itertools.product(PROTOCOLS, authorities):
        fits = protocol == "rest" and authority == own
        for operation in (REVOKE, STATUS, SEARCH, PENDING):
            yield Try(operation, protocol, authority, is_allowed=fits)
        for profile in profiles if authority == own else profiles[:2]:
            is_allowed = fits and profile == "server"
            yield Try(ENROLL, protocol, authority, profile, is_allowed=is_allowed)
        for operation, profile in itertools.product(VERDICTS, profiles[:2]):
            is_allowed = fits and profile == "server"
            yield Try(operation, protocol, authority, profile, is_allowed=is_allowed)
    for authority in authorities:
        yield Try(CERTIFY_SIGNER, "", authority)
