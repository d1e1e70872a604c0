"""Revocation: reasons (RFC 5280 section 5.3.1) as numbers and as names."""

from __future__ import annotations

import enum

from node_agent.errors import RequestRefused

__all__ = ["Reason"]


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
