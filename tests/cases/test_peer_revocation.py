"""Peers on CRLs, and CRLs that don't count, one function each, with the verdict."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.path_cases import Case, cases_in, judge, path_case
from tests.support.pki import ThrowawayAuthority, key_usage


@path_case
def revoked_peer(case: Case) -> None:
    """``anchor -> peer``, the peer on the anchor's CRL. **invalid**"""
    leaf = case.root.authenticator("ra1")[1]
    case.invalid(leaf, "is revoked", crls=[case.root.crl([leaf])])


@path_case
def another_peer_is_revoked(case: Case) -> None:
    """``anchor -> peer``, another one on the CRL. **valid**"""
    other = case.root.authenticator("ca1")[1]
    case.valid(case.root.authenticator("ra1")[1], crls=[case.root.crl([other])], strict=True)


@path_case
def revoked_intermediate(case: Case) -> None:
    """``anchor -> revoked sub CA -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.invalid(
        sub.authenticator("ra1")[1],
        "is revoked",
        sent=[sub.certificate],
        crls=[case.root.crl([sub.certificate])],
    )


@path_case
def revoked_on_an_overdue_crl(case: Case) -> None:
    """``anchor -> peer`` on a CRL that has run out: a revocation is never forgotten. **invalid**"""
    leaf = case.root.authenticator("ra1")[1]
    case.invalid(leaf, "is revoked", crls=[case.root.crl([leaf], next_update_seconds=-1)])


@path_case
def good_on_an_overdue_crl(case: Case) -> None:
    """``anchor -> peer``, the CRL overdue: by default links outlive a late CRL. **valid**"""
    crl = case.root.crl(next_update_seconds=-1)
    case.valid(case.root.authenticator("ra1")[1], crls=[crl])


@path_case
def good_on_an_overdue_crl_where_a_current_one_is_required(case: Case) -> None:
    """``anchor -> peer``, the CRL overdue, ``require_current_crl``. **invalid**"""
    crl = case.root.crl(next_update_seconds=-1)
    case.invalid(case.root.authenticator("ra1")[1], "out of date", crls=[crl], strict=True)


@path_case
def no_crl_where_one_is_required(case: Case) -> None:
    """``anchor -> peer``, no CRL, ``require_current_crl``. **invalid**"""
    case.invalid(case.root.authenticator("ra1")[1], "no usable CRL", strict=True)


@path_case
def released_on_the_newer_crl(case: Case) -> None:
    """``anchor -> peer`` on an older CRL (a hold) and off the newer one. **valid**"""
    leaf = case.root.authenticator("ra1")[1]
    older = case.root.crl([leaf], number=1, this_update_seconds=-3600)
    newer = case.root.crl(number=2, this_update_seconds=-60)
    case.valid(leaf, crls=[newer, older])


@path_case
def crl_signed_by_a_stranger(case: Case) -> None:
    """``anchor -> peer``, an unrevoking CRL that another key signed isn't believed. **invalid**"""
    leaf = case.root.authenticator("ra1")[1]
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = case.root.crl(number=9, this_update_seconds=-1, signed_with=stranger)
    case.invalid(leaf, "is revoked", crls=[forged, case.root.crl([leaf])])


@path_case
def crl_of_an_authority_that_may_not_sign_crls(case: Case) -> None:
    """``anchor (keyCertSign only) -> peer``, current CRL required. **invalid**"""
    anchor = ThrowawayAuthority("Anchor", key_usage=key_usage("key_cert_sign"))
    case.invalid(
        anchor.authenticator("ra1")[1],
        "no usable CRL",
        anchors=[anchor.certificate],
        crls=[anchor.crl()],
        strict=True,
    )


@path_case
def crl_for_ca_certificates_only(case: Case) -> None:
    """``anchor -> peer`` with a CRL that doesn't cover peers, current CRL required. **invalid**"""
    scope = x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=True,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    crl = case.root.crl(extra_extensions=[(scope, True)])
    case.invalid(case.root.authenticator("ra1")[1], "no usable CRL", crls=[crl], strict=True)


@pytest.mark.parametrize("name", cases_in(__name__))
def test_path_case(name: str) -> None:
    case = judge(name)
    assert case.is_valid is not bool(case.fault), case.fault or "accepted"
    assert case.because in case.fault
