"""Reasons and the status that may follow another."""

from __future__ import annotations

import pytest
from cryptography import x509

from node_agent.errors import Conflict, RequestRefused
from node_agent.pki.revoke import CurrentStatus, Reason, plan_status
from node_agent.store.records import CertificateStatus

GOOD, HELD, REVOKED = CertificateStatus.GOOD, CertificateStatus.ON_HOLD, CertificateStatus.REVOKED


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_known_by_number_and_both_names(reason):
    assert Reason.parse(int(reason)) is reason
    assert Reason.parse(reason.rfc_name) is reason
    assert Reason.parse(reason.name.lower()) is reason


def test_names_are_those_of_rfc_5280():
    assert {reason.rfc_name for reason in Reason} == {flag.value for flag in x509.ReasonFlags}


@pytest.mark.parametrize("value", [7, 11, -1, "lost", "KeyCompromise", ""])
def test_other_reasons_are_refused(value):
    with pytest.raises(RequestRefused) as refused:
        Reason.parse(value)
    assert refused.value.field == "reason"
    assert "keyCompromise" in refused.value.remedy


@pytest.mark.parametrize(
    ("status", "reason", "following"),
    [
        (GOOD, Reason.KEY_COMPROMISE, REVOKED),
        (GOOD, Reason.UNSPECIFIED, REVOKED),
        (GOOD, Reason.CERTIFICATE_HOLD, HELD),
        (GOOD, Reason.REMOVE_FROM_CRL, None),
        (HELD, Reason.REMOVE_FROM_CRL, GOOD),
        (HELD, Reason.SUPERSEDED, REVOKED),
        (HELD, Reason.CERTIFICATE_HOLD, None),
    ],
)
def test_status_follows(status, reason, following):
    assert plan_status(CurrentStatus(status), reason) is following


def test_same_revocation_again_changes_nothing():
    assert plan_status(CurrentStatus(REVOKED, 1), Reason.KEY_COMPROMISE) is None


@pytest.mark.parametrize(
    "reason", [Reason.REMOVE_FROM_CRL, Reason.CERTIFICATE_HOLD, Reason.SUPERSEDED]
)
def test_revocation_is_final(reason):
    with pytest.raises(Conflict, match=reason.rfc_name):
        plan_status(CurrentStatus(REVOKED, 1), reason)
