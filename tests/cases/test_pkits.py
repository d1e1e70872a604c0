"""NIST PKITS (Public Key Interoperability Test Suite) where it applies to peer paths.

All 223 end-entity certificates are validated with all CA certificates as candidates and all CRLs,
with ``require_current_crl``. What the suite calls invalid must be refused, without exception but
one. What it calls valid must be accepted, but for what Peersys doesn't do; each of those is listed
with the reason, and has to be *refused*: an exclusion may cost an acceptance, never a refusal.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509

from node_agent.errors import HandshakeError
from node_agent.net.path import PathRules, PathValidator

PKITS = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
# The suite's certificates are good from 2010 to 2030.
NOW = 1_577_836_800.0

SAME_KEY = "a CRL counts when the key that signed the certificate signed it"
WHOLE = "a CRL counts when it covers all certificates of its issuer, for all reasons"
EXACT = "names chain when they are equal value by value"
POLICIES = "certificate policies aren't processed; what restricts them is refused when critical"
NO_DSA = "DSA isn't used for peers"
NO_DELTA = "delta CRLs aren't used"

EXCLUDED = {
    r"ValidBasicSelfIssued(NewWithOld|OldWithNew|CRLSigningKey)Test\d+": SAME_KEY,
    r"ValidDNnameConstraintsTest19": SAME_KEY,
    r"ValidSelfIssuedpathLenConstraintTest1[57]": SAME_KEY,
    r"ValidSeparateCertificateandCRLKeysTest19": SAME_KEY,
    r"ValidIDPwithindirectCRLTest2[245]": WHOLE,
    r"ValidcRLIssuerTest(28|29|30|33)": WHOLE,
    r"ValiddistributionPointTest[1457]": WHOLE,
    r"ValidonlyContainsCACertsTest13": WHOLE,
    r"ValidonlySomeReasonsTest1[89]": WHOLE,
    r"ValidNameChaining(Capitalization|Whitespace)Test[345]": EXACT,
    r"ValidRolloverfromPrintableStringtoUTF8StringTest10": EXACT,
    r"ValidUTF8StringCaseInsensitiveMatchTest11": EXACT,
    r"ValidPolicyMappingTest(1|3|5|6|9|11|12|13|14)": POLICIES,
    r"Valid(SelfIssued)?inhibitAnyPolicyTest[279]": POLICIES,
    r"inhibitAnyPolicyTest3": POLICIES,
    r"Valid(SelfIssued)?inhibitPolicyMappingTest[247]": POLICIES,
    r"Valid(SelfIssued)?requireExplicitPolicyTest[1246]": POLICIES,
    r"ValidDSASignaturesTest4": NO_DSA,
    r"ValidDSAParameterInheritanceTest5": NO_DSA,
    r"ValiddeltaCRLTest5": NO_DELTA,
}
# Revoked on a delta CRL alone. A node never gets that far: ``TlsIdentity`` refuses a delta CRL as
# configuration instead of ignoring it.
ACCEPTED_WITHOUT_DELTAS = {"InvaliddeltaCRLTest4"}

NAMES = sorted(path.stem.removesuffix("EE") for path in (PKITS / "certs").glob("*EE.crt"))

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")


def reason_of(name: str) -> str | None:
    found = [reason for pattern, reason in EXCLUDED.items() if re.fullmatch(pattern, name)]
    assert len(found) <= 1, f"{name} is excluded twice"
    return found[0] if found else None


def load(path: Path) -> x509.Certificate:
    return x509.load_der_x509_certificate(path.read_bytes())


@cache
def validator() -> PathValidator:
    anchor = "TrustAnchorRootCertificate"
    # Its key has no parameters of its own, which cryptography doesn't parse: part of NO_DSA.
    unreadable = "DSAParametersInheritedCACert"
    intermediates = [
        load(path)
        for path in sorted((PKITS / "certs").glob("*.crt"))
        if not path.stem.endswith("EE") and path.stem not in (anchor, unreadable)
    ]
    return PathValidator(
        [load(PKITS / "certs" / f"{anchor}.crt")],
        intermediates=intermediates,
        crls=[
            x509.load_der_x509_crl(path.read_bytes())
            for path in sorted((PKITS / "crls").glob("*.crl"))
        ],
        rules=PathRules(require_current_crl=True),
    )


def is_accepted(name: str) -> bool:
    try:
        validator().validate(load(PKITS / "certs" / f"{name}EE.crt"), now=NOW)
    except (HandshakeError, ValueError):
        return False
    return True


def test_the_whole_suite_is_there() -> None:
    assert len(NAMES) == 223


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("Invalid")])
def test_pkits_invalid_path_is_refused(name: str) -> None:
    assert is_accepted(name) == (name in ACCEPTED_WITHOUT_DELTAS)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("Invalid")])
def test_pkits_valid_path_is_accepted_or_excluded_for_a_reason(name: str) -> None:
    assert is_accepted(name) == (reason_of(name) is None)


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_every_exclusion_is_in_use(pattern: str) -> None:
    assert any(re.fullmatch(pattern, name) for name in NAMES)
