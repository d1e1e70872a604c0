"""Whatever a profile admits is issued as it says, and other programs read the same."""

from __future__ import annotations

import ipaddress
import re
import subprocess

from cryptography import x509
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from node_agent.errors import CsrRefused, ProfileViolation
from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
from node_agent.pki import usages
from node_agent.pki.csr import parse_csr
from node_agent.pki.issue import issue
from node_agent.pki.profile import Profile
from node_agent.pki.sample_lint import lint_certificate
from tests.support.csrs import NOW, csr_der, issuing_ca, key_of_kind, root_ca

KINDS = ("ec-p256", "ec-p384", "ed25519", "rsa-2048", "ml-dsa-44")
PATTERNS = [None, r"[a-z0-9.-]+\.example\.org", r"(\*\.)?[a-z0-9.-]+", r".{1,20}"]
LABELS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\Z")
HOSTS = st.builds(
    lambda wild, labels, end: wild + ".".join([*labels, end]),
    st.sampled_from(["", "", "", "*."]),
    st.lists(LABELS, min_size=1, max_size=3),
    st.sampled_from(["example.org", "example", "Example.ORG"]),
)
VALUES = {
    "common_name": ("CN", ["host.example.org", "Ada Lovelace", "web"]),
    "organization": ("O", ["Example", "Beispiel & Söhne"]),
    "organizational_unit": ("OU", ["a", "b"]),
    "country": ("C", ["DE", "FR"]),
    "locality": ("L", ["Fulda"]),
}
NAMES_OF_KIND = {
    "dns": HOSTS.map("dns:{}".format),
    "ip": st.ip_addresses().map("ip:{}".format),
    "email": LABELS.map("email:{}@example.org".format),
    "uri": LABELS.map("uri:https://{}.example.org/path".format),
}
NAMES = st.one_of(*NAMES_OF_KIND.values())


@st.composite
def profiles(draw):
    chosen = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True))
    subject = tuple(
        SubjectRule(
            attribute=attribute,
            required=draw(st.booleans()),
            value=draw(st.sampled_from([None, None, None, "DE"])),
        )
        for attribute in chosen
    )
    kinds = draw(st.lists(st.sampled_from(["dns", "ip", "email", "uri"]), unique=True))
    san = tuple(
        SanRule(
            kind=kind,
            minimum=draw(st.integers(0, 1)),
            maximum=draw(st.integers(1, 4)),
            pattern=draw(st.sampled_from(PATTERNS if kind == "dns" else [None, ".{1,40}"])),
        )
        for kind in kinds
    )
    assume(subject or san)
    bits = draw(st.lists(st.sampled_from(["key_encipherment", "key_agreement"]), unique=True))
    return CertificateProfileSpec(
        name="drawn",
        subject=subject,
        san=san,
        key_kinds=tuple(draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))),
        key_usage=("digital_signature", *bits),
        extended_key_usage=tuple(
            draw(st.lists(st.sampled_from(["server_auth", "client_auth"]), unique=True))
        ),
        validity_days=draw(st.integers(1, 5000)),
        backdate_seconds=draw(st.integers(0, 3600)),
        include_crl_url=draw(st.booleans()),
        include_ocsp_url=draw(st.booleans()),
    )


@st.composite
def requests(draw, spec):
    """Mostly what the profile asks for; sometimes a key, an attribute or a name that it doesn't."""
    strays = draw(st.sampled_from([False, False, False, True]))
    attributes = [rule.attribute for rule in spec.subject if rule.value is None]
    attributes = draw(st.sampled_from([sorted(VALUES), attributes])) if strays else attributes
    subject = [
        f"{VALUES[attribute][0]}={draw(st.sampled_from(VALUES[attribute][1]))}"
        for attribute in attributes
    ]
    strategies = [NAMES_OF_KIND[rule.kind] for rule in spec.san]
    names = [draw(strategy) for strategy in strategies]
    if strays:
        names += draw(st.lists(NAMES, max_size=4))
    kind = draw(st.sampled_from(KINDS if strays else spec.key_kinds))
    seconds = draw(st.one_of(st.none(), st.integers(1, spec.validity_days * 86400 + strays)))
    return ",".join(subject), names, kind, seconds


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(profiles().flatmap(lambda spec: st.tuples(st.just(spec), requests(spec))))
def test_issued_certificate_obeys_its_profile(drawn):
    spec, (subject, names, kind, seconds) = drawn
    try:
        csr = parse_csr(csr_der(subject, names, key=key_of_kind(kind, 1)))
        admitted = Profile.from_spec(spec).admit(csr, validity_seconds=seconds)
    except (CsrRefused, ProfileViolation):
        event("refused")
        return
    event("issued")
    issued = issue(issuing_ca(), admitted, now=NOW)
    certificate = x509.load_der_x509_certificate(issued.der)
    parent = x509.load_der_x509_certificate(issuing_ca().certificate)
    certificate.verify_directly_issued_by(parent)
    # RFC 5280 leaves wildcards to other standards, and pkilint's rules of it know none.
    if not any("*" in name for name in issued.names):
        lint_certificate(issued.der)
    assert kind in spec.key_kinds
    assert certificate.public_key() == key_of_kind(kind, 1).public_key()
    assert_validity(certificate, spec, seconds)
    assert_subject(certificate, spec)
    assert_names(certificate, spec, names)
    assert_usages(certificate, spec, kind)


def assert_validity(certificate, spec, seconds):
    start = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    assert start <= NOW <= end
    assert start >= max(NOW - spec.backdate_seconds, issuing_ca().not_before)
    assert end - start + 1 <= spec.validity_days * 86400
    assert end <= issuing_ca().not_after
    assert seconds is None or end <= NOW + seconds


def assert_subject(certificate, spec):
    listed = [rule.attribute for rule in spec.subject]
    names = {"commonName": "common_name", "organizationName": "organization"}
    names |= {"organizationalUnitName": "organizational_unit", "countryName": "country"}
    names |= {"localityName": "locality"}
    found = [(names[part.oid._name], part.value) for part in certificate.subject]
    assert [listed.index(attribute) for attribute, _ in found] == sorted(
        listed.index(attribute) for attribute, _ in found
    )
    for rule in spec.subject:
        values = [value for attribute, value in found if attribute == rule.attribute]
        assert values or not (rule.required or rule.value)
        assert rule.value is None or values == [rule.value]


def san_of(certificate):
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return [], False
    kinds = {x509.DNSName: "dns", x509.IPAddress: "ip", x509.RFC822Name: "email"}
    found = [(kinds.get(type(name), "uri"), str(name.value)) for name in extension.value]
    return found, extension.critical


def assert_names(certificate, spec, requested):
    found, critical = san_of(certificate)
    assert bool(found) is bool(requested)
    assert {f"{kind}:{value}" for kind, value in found} == {_normal(name) for name in requested}
    assert critical == (bool(found) and not list(certificate.subject))
    assert found or list(certificate.subject)
    for rule in spec.san:
        values = [value for kind, value in found if kind == rule.kind]
        assert rule.minimum <= len(values) <= rule.maximum
        assert rule.pattern is None or all(re.fullmatch(rule.pattern, value) for value in values)
        assert (rule.pattern and r"\*" in rule.pattern) or not any("*" in v for v in values)
    assert {kind for kind, _ in found} <= {rule.kind for rule in spec.san}


def _normal(name):
    kind, _, value = name.partition(":")
    if kind == "ip":
        return f"ip:{ipaddress.ip_address(value)}"
    return f"{kind}:{value.lower()}" if kind == "dns" else name


def assert_usages(certificate, spec, kind):
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert not (usage.key_cert_sign)
    assert not (usage.crl_sign)
    assert usage.key_encipherment == (
        "key_encipherment" in spec.key_usage and kind.startswith("rsa-")
    )
    assert usage.key_agreement == ("key_agreement" in spec.key_usage and kind.startswith("ec-"))
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    wanted = [usages.EXTENDED_KEY_USAGES[name] for name in spec.extended_key_usage]
    types = {type(extension.value): extension.value for extension in certificate.extensions}
    purposes = types.get(x509.ExtendedKeyUsage, ())
    assert [purpose.dotted_string for purpose in purposes] == wanted
    assert (x509.CRLDistributionPoints in types) is spec.include_crl_url


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(NAMES.filter(lambda name: "*" not in name), min_size=1, max_size=5),
    st.sampled_from([kind for kind in KINDS if not kind.startswith("ml-dsa")]),
)
def test_openssl_verifies_and_prints_what_was_issued(tmp_path_factory, names, kind):
    spec = CertificateProfileSpec(
        name="open",
        san=tuple(SanRule(kind=kind) for kind in ("dns", "ip", "email", "uri")),
    )
    csr = parse_csr(csr_der("", names, key=key_of_kind(kind, 1)))
    issued = issue(issuing_ca(), Profile.from_spec(spec).admit(csr), now=NOW)
    directory = tmp_path_factory.mktemp("chain")
    files = {"root": root_ca().certificate, "issuing": issuing_ca().certificate, "leaf": issued.der}
    for name, encoded in files.items():
        certificate = x509.load_der_x509_certificate(encoded)
        (directory / name).write_bytes(certificate.public_bytes(x509_encoding()))
    verified = subprocess.run(
        [
            "openssl", "verify", "-x509_strict", "-attime", str(NOW), "-CAfile", directory / "root",
            "-untrusted", directory / "issuing", directory / "leaf",
        ],
        capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    printed = subprocess.run(
        ["openssl", "x509", "-in", directory / "leaf", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        check=True,
        timeout=20,
    ).stdout.decode()
    for value in issued.names:
        assert value in printed or ":" in value


def x509_encoding():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM
