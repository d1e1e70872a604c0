"""Messages of the operations on requests that wait for approval."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "ApproveRequest",
    "PendingAnswer",
    "PendingDescription",
    "PendingRequest",
    "RejectRequest",
    "VerdictAnswer",
    "Waiting",
    "WithdrawRequest",
]

ApprovalId = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# No control characters: it is shown in terminals, and stands in the audit log.
Reason = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Waiting(_Message, frozen=True):
    """What an enrolment waits for: ``needed`` approvals until ``expires_at``, ``given`` so far.

    ``approval`` is SHA-256 over all that is approved: see ``docs/reference/protocol.md``.
    """

    approval: bytes
    given: int
    needed: int
    expires_at: int


class PendingRequest(_Message, frozen=True):
    """Ask which requests to ``authority`` wait for approval, or for one of them with its CSR."""

    authority: str
    approval: ApprovalId | None = None
    limit: int = 100
    after: str | None = None
    protocol: str = "rest"


class PendingDescription(_Message, frozen=True):
    """A request that waits. ``csr`` (DER) is empty in a list."""

    approval: bytes
    authority: str
    profile: str
    requester: str
    origin: str
    subject: str
    names: tuple[str, ...]
    validity_seconds: int | None
    opened_at: int
    expires_at: int
    needed: int
    approvers: tuple[str, ...]
    csr: bytes


class PendingAnswer(_Message, frozen=True):
    """Oldest first; ``after`` continues the list, None at its end."""

    requests: tuple[PendingDescription, ...]
    after: str | None


class _Verdict(_Message, frozen=True):
    authority: str
    profile: str
    approval: ApprovalId
    protocol: str = "rest"


class ApproveRequest(_Verdict, frozen=True):
    """Approve exactly what ``approval`` is the digest of."""


class RejectRequest(_Verdict, frozen=True):
    """End a request that waits; its requester is told ``reason``."""

    reason: Reason = ""


class WithdrawRequest(_Verdict, frozen=True):
    """End a request of the same requester at the same origin."""


class VerdictAnswer(_Message, frozen=True):
    """The request after it: ``state`` as in ApprovalState. ``changed`` is False for a repeat."""

    state: str
    given: int
    needed: int
    expires_at: int
    changed: bool
