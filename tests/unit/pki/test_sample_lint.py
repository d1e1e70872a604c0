"""The thorough lint of profiles."""

from __future__ import annotations

import subprocess
import sys

import pytest

from node_agent.errors import LintFailed
from node_agent.objects import SanRule, SubjectRule
from node_agent.pki import der, usages
from node_agent.pki.issue import issue
from node_agent.pki.keys import KEY_KINDS
from node_agent.pki.names import ATTRIBUTES
from node_agent.pki.sample_lint import lint_certificate, lint_profile_sample
from tests.support.csrs import NOW, issuing_ca, parsed_csr, profile


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-4096", "ed25519", "ml-dsa-44"])
def test_usual_profile_has_no_findings(kind):
    assert lint_profile_sample(profile(key_kinds=KEY_KINDS), issuing_ca(kind), now=NOW) == []


def test_every_attribute_and_name_is_part_of_the_sample():
    made = profile(
        subject=tuple(SubjectRule(attribute=attribute) for attribute in ATTRIBUTES),
        san=tuple(SanRule(kind=kind) for kind in ("dns", "ip", "email", "uri")),
        policies=("2.5.29.32.0",),
    )
    assert lint_profile_sample(made, issuing_ca(), now=NOW) == []


def test_profile_that_breaks_a_rule_is_refused_with_the_finding():
    made = profile(subject=(SubjectRule(attribute="domain_component", value="example"),))
    with pytest.raises(LintFailed) as refused:
        lint_profile_sample(made, issuing_ca(), now=NOW)
    assert "domain_components_invalid_domain_name at certificate.tbs" in str(refused.value)


def test_sample_is_not_signed_by_the_issuers_key():
    class Untouchable:
        kind = "ec-p256"
        spki = issuing_ca().spki

        def sign(self, data):
            raise AssertionError("the CA's key was used")

    from dataclasses import replace

    issuer = replace(issuing_ca(), key=Untouchable(), static_extensions={})
    assert lint_profile_sample(profile(), issuer, now=NOW) == []


def test_issuer_that_is_not_valid_yet_can_be_linted():
    assert lint_profile_sample(profile(), issuing_ca(), now=0) == []


def test_warning_is_returned_and_not_raised():
    """A certificate with key usage that is not critical: RFC 5280 says it should be."""
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    critical = usages.key_usage_extension(frozenset({0}))
    relaxed = der.extension("2.5.29.15", der.named_bits(frozenset({0})))
    shorter = len(critical) - len(relaxed)
    fields = der.children(der.read_all(issued.der, der.SEQUENCE))
    parts = der.children(fields[0][1])
    extensions = der.read_all(parts[7][1], der.SEQUENCE).replace(critical, relaxed)
    last = der.context(3, der.tlv(der.SEQUENCE, extensions), constructed=True)
    body = der.sequence(*(whole for _, _, whole in parts[:7]), last)
    changed = der.sequence(body, fields[1][2], fields[2][2])
    assert len(issued.der) - len(changed) == shorter
    (warning,) = lint_certificate(changed)
    assert warning.startswith("pkix.key_usage_extension_not_critical at certificate")


def test_pkilint_is_imported_on_first_use_only():
    code = "import sys, node_agent.pki.sample_lint; sys.exit('pkilint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
