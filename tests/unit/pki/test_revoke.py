"""Reasons of a revocation, by number and by name."""

from __future__ import annotations

import pytest
from cryptography import x509

from node_agent.errors import RequestRefused
from node_agent.pki.revoke import Reason


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
