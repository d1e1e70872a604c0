"""Profiles: what is refused when one is written, and what each lets through."""

from __future__ import annotations

import pytest

from node_agent.errors import ConfigError, ProfileViolation
from node_agent.objects import SanRule, SubjectRule
from node_agent.pki.names import AlternativeName, NameAttribute
from node_agent.pki.profile import Profile
from tests.support.csrs import PROFILE_SPEC, key_of_kind, parsed_csr, profile


def config_error(**changes):
    with pytest.raises(ConfigError) as refused:
        profile(**changes)
    assert refused.value.where.startswith("certificate_profiles/tls")
    assert refused.value.remedy
    return refused.value


def violation(made, csr, **options):
    with pytest.raises(ProfileViolation) as refused:
        made.admit(csr, **options)
    assert refused.value.remedy
    return refused.value


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": (SubjectRule(attribute="CN", pattern="("),)},
        {"san": (SanRule(kind="dns", pattern="("),)},
    ],
)
def test_fault_of_a_pattern_is_told_once(changes):
    refused = config_error(**changes)
    assert ".pattern: pattern '(': " in str(refused)
    assert str(refused).count(refused.remedy) == 1


def test_default_specification_is_a_profile():
    made = Profile.from_spec(PROFILE_SPEC)
    assert made.validity_seconds == 90 * 86400
    assert made.key_usage == {0}
    assert made.extended_key_usage == ("1.3.6.1.5.5.7.3.1",)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subject": (), "san": ()}, ""),
        ({"subject": (SubjectRule(attribute="country", value="Germany"),)}, "subject.country"),
        (
            {"subject": (SubjectRule(attribute="country", value="DE", pattern="DE"),)},
            "subject.country",
        ),
        (
            {"subject": (SubjectRule(attribute="country"), SubjectRule(attribute="country"))},
            "subject.country",
        ),
        ({"subject": (SubjectRule(attribute="common_name", pattern="("),)}, "common_name.pattern"),
        ({"san": (SanRule(kind="dns"), SanRule(kind="dns"))}, "san.dns"),
        ({"san": (SanRule(kind="dns", minimum=2, maximum=1),)}, "san.dns"),
        ({"san": (SanRule(kind="dns", maximum=0),)}, "san.dns"),
        ({"san": (SanRule(kind="dns", minimum=-1),)}, "san.dns"),
        ({"san": (SanRule(kind="dns", maximum=251),)}, "san.dns"),
        ({"san": (SanRule(kind="dns", pattern="(?=x)"),)}, "san.dns.pattern"),
        ({"key_usage": ("signing",)}, "key_usage"),
        ({"key_usage": ("key_cert_sign",)}, "key_usage"),
        ({"key_usage": ("crl_sign", "digital_signature")}, "key_usage"),
        ({"key_usage": ("digital_signature", "encipher_only")}, "key_usage"),
        ({"key_usage": ("key_encipherment",)}, "key_kinds"),
        ({"key_kinds": ()}, "key_kinds"),
        ({"extended_key_usage": ("server",)}, "extended_key_usage"),
        ({"extended_key_usage": ("server_auth", "server_auth")}, "extended_key_usage"),
        ({"extended_key_usage": ("server_auth", "1.3.6.1.5.5.7.3.1")}, "extended_key_usage"),
        ({"extended_key_usage": ("1.3.6.1.5.5.7.3.9",)}, "extended_key_usage"),
        ({"extended_key_usage": ("2.5.29.37.0",)}, "extended_key_usage"),
        ({"extended_key_usage": ("time_stamping", "server_auth")}, "extended_key_usage"),
        ({"policies": ("policy",)}, "policies"),
        ({"policies": ("1.2.3.4", "1.2.3.4")}, "policies"),
        ({"backdate_seconds": -1}, "backdate_seconds"),
        ({"validity_days": 1, "backdate_seconds": 86400}, "backdate_seconds"),
    ],
)
def test_specification_at_fault_is_refused_with_its_field(changes, field):
    assert field in config_error(**changes).where


def test_dotted_purposes_are_taken():
    made = profile(extended_key_usage=("1.3.6.1.4.1.99999.1", "client_auth"))
    assert made.extended_key_usage == ("1.3.6.1.4.1.99999.1", "1.3.6.1.5.5.7.3.2")


def test_admitted_request_is_what_was_asked_for():
    csr = parsed_csr(names=["dns:b.example", "ip:192.0.2.1", "dns:a.example"], subject="")
    admitted = profile().admit(csr, validity_seconds=3600)
    assert admitted.subject == ()
    assert admitted.alternative_names == (
        AlternativeName("dns", "b.example"),
        AlternativeName("dns", "a.example"),
        AlternativeName("ip", "192.0.2.1"),
    )
    assert (admitted.spki, admitted.validity_seconds) == (csr.spki, 3600)


def test_subject_stands_in_the_order_of_the_profile():
    made = profile(
        subject=(
            SubjectRule(attribute="country", value="DE"),
            SubjectRule(attribute="organizational_unit"),
            SubjectRule(attribute="common_name", required=True),
        )
    )
    admitted = made.admit(parsed_csr("CN=host.example.org,OU=b,OU=a"))
    assert admitted.subject == (
        NameAttribute("country", "DE"),
        NameAttribute("organizational_unit", "a"),
        NameAttribute("organizational_unit", "b"),
        NameAttribute("common_name", "host.example.org"),
    )


def test_fixed_value_may_be_asked_for_but_not_another():
    made = profile(subject=(SubjectRule(attribute="organization", value="Example"),))
    assert made.admit(parsed_csr("O=Example")).subject == (("organization", "Example"),)
    assert violation(made, parsed_csr("O=Other")).field == "subject.organization"


@pytest.mark.parametrize(
    ("rules", "subject", "field"),
    [
        ((), "CN=x", "subject.common_name"),
        ((SubjectRule(attribute="common_name", required=True),), "", "subject.common_name"),
        ((SubjectRule(attribute="common_name", pattern="[a-z]+"),), "CN=x1", "subject.common_name"),
        ((SubjectRule(attribute="common_name"),), "CN=x,CN=y", "subject.common_name"),
        ((SubjectRule(attribute="common_name"),), "CN=x,O=y", "subject.organization"),
    ],
)
def test_subject_outside_the_profile_is_refused(rules, subject, field):
    csr = parsed_csr(subject, ["dns:host.example.org"])
    assert violation(profile(subject=rules), csr).field == field


@pytest.mark.parametrize(
    ("rules", "names", "field"),
    [
        ((SanRule(kind="ip"),), ["dns:a.example"], "san.dns"),
        ((SanRule(kind="dns", minimum=1), SanRule(kind="ip")), ["ip:192.0.2.1"], "san.dns"),
        ((SanRule(kind="dns", maximum=1),), ["dns:a.example", "dns:b.example"], "san.dns"),
        ((SanRule(kind="dns", pattern=r"[a-z]+\.example"),), ["dns:a.b.example"], "san.dns"),
        ((SanRule(kind="dns"),), ["dns:*.example.org"], "san.dns"),
        ((SanRule(kind="dns", pattern=r".*\.example\.org"),), ["dns:*.example.org"], "san.dns"),
    ],
)
def test_alternative_names_outside_the_profile_are_refused(rules, names, field):
    made = profile(san=rules)
    assert violation(made, parsed_csr("", names)).field == field


def test_wildcard_is_admitted_by_a_pattern_that_names_it():
    made = profile(san=(SanRule(kind="dns", pattern=r"\*\.[a-z]+\.example\.org"),))
    admitted = made.admit(parsed_csr("", ["dns:*.web.example.org"]))
    assert admitted.alternative_names == (("dns", "*.web.example.org"),)
    assert violation(made, parsed_csr("", ["dns:a.web.example.org"])).field == "san.dns"


def test_request_that_names_nobody_is_refused():
    assert violation(profile(), parsed_csr("", [])).detail == "the request names nobody"


def test_key_kind_outside_the_profile_is_refused():
    made = profile(key_kinds=("ec-p384", "ed25519"))
    refused = violation(made, parsed_csr())
    assert refused.field == "key"
    assert "ec-p384 or ed25519" in refused.remedy
    assert made.admit(parsed_csr(key=key_of_kind("ed25519"))).key_kind == "ed25519"


@pytest.mark.parametrize("seconds", [0, -1, 90 * 86400 + 1])
def test_validity_outside_the_profile_is_refused(seconds):
    assert violation(profile(), parsed_csr(), validity_seconds=seconds).field == "validity_seconds"


@pytest.mark.parametrize(
    "subject", ["CN=bank.example.com", "CN=192.0.2.7", "CN=2001:db8::7", "CN=*.example.org"]
)
def test_host_name_in_the_common_name_must_be_an_alternative_name(subject):
    """**Refused**: the patterns of alternative names must not be bypassed by the common name."""
    assert violation(profile(), parsed_csr(subject)).field == "subject.common_name"


@pytest.mark.parametrize("subject", ["CN=HOST.example.org", "CN=Ada Lovelace", "CN=web", "CN=a:b"])
def test_other_common_names_are_free(subject):
    assert profile().admit(parsed_csr(subject)).subject


def test_common_name_of_a_client_may_look_like_a_host_name():
    made = profile(extended_key_usage=("client_auth",))
    assert made.admit(parsed_csr("CN=device7.example.com")).subject


def test_hand_made_request_is_judged_like_a_parsed_one():
    from dataclasses import replace

    sly = replace(parsed_csr(), alternative_names=(AlternativeName("dns", "host_1\x00.example"),))
    assert violation(profile(), sly).field == "san.dns"
