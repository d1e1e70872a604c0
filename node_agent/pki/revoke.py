"""Revocation: reasons (RFC 5280 section 5.3.1) and which status may follow which."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from node_agent.errors import Conflict, RequestRefused
from node_agent.store.records import CertificateStatus

__all__ = ["CurrentStatus", "Reason", "plan_status"]


class Reason(enum.IntEnum):
    """CRLReason. ``REMOVE_FROM_CRL`` releases a hold; 7 is not used by the standard."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    REMOVE_FROM_CRL = 8
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10

    @property
    def rfc_name(self) -> str:
        """The name as RFC 5280 writes it: ``keyCompromise``."""
        return _RFC_NAMES[self]

    @classmethod
    def parse(cls, value: int | str) -> Reason:
        """Return the reason of a number, an RFC 5280 name or its snake_case form.

        Raises RequestRefused when there is none.
        """
        try:
            return cls(value) if isinstance(value, int) else _BY_NAME[value]
        except (ValueError, KeyError) as error:
            raise RequestRefused(
                f"{value!r} is not a revocation reason",
                field="reason",
                remedy=f"use one of {', '.join(_RFC_NAMES.values())}",
            ) from error


_RFC_NAMES = {
    Reason.UNSPECIFIED: "unspecified",
    Reason.KEY_COMPROMISE: "keyCompromise",
    Reason.CA_COMPROMISE: "cACompromise",
    Reason.AFFILIATION_CHANGED: "affiliationChanged",
    Reason.SUPERSEDED: "superseded",
    Reason.CESSATION_OF_OPERATION: "cessationOfOperation",
    Reason.CERTIFICATE_HOLD: "certificateHold",
    Reason.REMOVE_FROM_CRL: "removeFromCRL",
    Reason.PRIVILEGE_WITHDRAWN: "privilegeWithdrawn",
    Reason.AA_COMPROMISE: "aACompromise",
}
_BY_NAME = {
    **{name: reason for reason, name in _RFC_NAMES.items()},
    **{reason.name.lower(): reason for reason in Reason},
}


@dataclass(frozen=True, slots=True)
class CurrentStatus:
    """A certificate's status and the reason recorded with it."""

    status: CertificateStatus
    reason: int | None = None


_GOOD, _HELD, _REVOKED = CertificateStatus
_FOLLOWING: dict[tuple[CertificateStatus, CertificateStatus], CertificateStatus | None] = {
    (_GOOD, _HELD): _HELD,
    (_GOOD, _REVOKED): _REVOKED,
    (_HELD, _GOOD): _GOOD,
    (_HELD, _REVOKED): _REVOKED,
    (_GOOD, _GOOD): None,
    (_HELD, _HELD): None,
    (_REVOKED, _REVOKED): None,
}
"""(now, asked for) -> what it becomes; None: it is so already. A missing pair is a conflict."""


def plan_status(current: CurrentStatus, reason: Reason) -> CertificateStatus | None:
    """Return the status that ``reason`` leads to, or None when nothing changes.

    Raises Conflict for what can't be undone: a revocation is final, and so is its reason.
    """
    asked = _asked_status(reason)
    pair = (current.status, asked)
    if pair not in _FOLLOWING or (asked is _REVOKED is current.status and current.reason != reason):
        raise Conflict(
            f"the certificate is {current.status} already, which {reason.rfc_name} can't change"
        )
    return _FOLLOWING[pair]


def _asked_status(reason: Reason) -> CertificateStatus:
    if reason is Reason.CERTIFICATE_HOLD:
        return _HELD
    return _GOOD if reason is Reason.REMOVE_FROM_CRL else _REVOKED
