"""Bodies that the admin API, the REST API and the status port share.

Requests (``Order``) refuse unknown fields; answers (``View``) may grow fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from node_agent.clock import EpochSeconds  # noqa: TC001  # msgspec resolves the annotation

__all__ = [
    "CertificateFilter",
    "CertificateInfo",
    "Health",
    "HealthWord",
    "JsonObject",
    "Order",
    "Problem",
    "REASON_NUMBERS",
    "RevocationOrder",
    "RevocationOutcome",
    "RevocationReason",
    "SerialHex",
    "StatusWord",
    "View",
]

JsonObject = dict[str, Any]
HealthWord = Literal["ok", "degraded", "failed"]
StatusWord = Literal["good", "on_hold", "revoked"]
SerialHex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,40}$")]
RevocationReason = Literal[
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
]

REASON_NUMBERS: dict[RevocationReason, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}
"""CRLReason names and numbers of RFC 5280 section 5.3.1; ``removeFromCRL`` releases a hold."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """An answer body."""


class Problem(View, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document. ``field`` names the part at fault, ``remedy`` what to do."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    remedy: str = ""
    findings: tuple[str, ...] = ()


class RevocationOrder(Order, frozen=True, kw_only=True):
    """Revoke (or hold with ``certificateHold``, release with ``removeFromCRL``)."""

    reason: RevocationReason = "unspecified"
    invalidity_at: EpochSeconds | None = None


class RevocationOutcome(View, frozen=True, kw_only=True):
    """The status after the order. ``changed`` is False when it was so already."""

    changed: bool
    status: StatusWord
    revoked_at: int | None
    reason: RevocationReason | None
    position: int = 0
    """Change-log position at which the status stands; 0 where it isn't told."""


class CertificateInfo(View, frozen=True, kw_only=True):
    """A certificate as lists and lookups return it."""

    authority: str
    serial: str
    subject: str
    names: tuple[str, ...]
    profile: str
    requester: str
    not_before: int
    not_after: int
    status: StatusWord
    revoked_at: int | None = None
    reason: RevocationReason | None = None
    certificate: str | None = None


class CertificateFilter(Order, frozen=True, kw_only=True):
    """A search; absent fields don't restrict. ``name`` matches subject or SAN as a substring.

    ``after`` is the opaque ``next`` of the page before (REST only).
    """

    authority: str | None = None
    name: str | None = None
    status: StatusWord | None = None
    profile: str | None = None
    requester: str | None = None
    expires_before: EpochSeconds | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    after: str | None = None


class Health(View, frozen=True, kw_only=True):
    """``GET /health`` of the open ports: says nothing that a stranger may not know."""

    status: HealthWord
