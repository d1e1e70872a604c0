"""Certificates as issued, judged by openssl, pkilint and cryptography."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from node_agent.errors import LintFailed, RequestRefused
from node_agent.objects import SanRule, SubjectRule
from node_agent.pki import der
from node_agent.pki.issue import issue, new_serial, prepare, sign
from node_agent.pki.keys import KEY_KINDS
from node_agent.pki.sample_lint import lint_certificate
from tests.support.csrs import (
    NOW,
    issuing_ca,
    key_of_kind,
    openssl,
    parsed_csr,
    pem,
    profile,
    root_ca,
)


def certificate_of(issued):
    return x509.load_der_x509_certificate(issued.der)


@pytest.fixture
def chain_files(tmp_path):
    def write(issuer, issued):
        (tmp_path / "root.pem").write_bytes(pem("CERTIFICATE", root_ca().certificate))
        (tmp_path / "issuing.pem").write_bytes(pem("CERTIFICATE", issuer.certificate))
        (tmp_path / "leaf.pem").write_bytes(pem("CERTIFICATE", issued.der))
        return tmp_path

    return write


def test_openssl_verifies_leaf_through_issuing_to_root(chain_files):
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    directory = chain_files(issuing_ca(), issued)
    said = openssl(
        "verify", "-x509_strict", "-attime", str(NOW + 60), "-purpose", "sslserver",
        "-verify_hostname", "host.example.org", "-policy_check",
        "-CAfile", directory / "root.pem", "-untrusted", directory / "issuing.pem",
        directory / "leaf.pem",
    )  # fmt: skip
    assert "leaf.pem: OK" in said


@pytest.mark.parametrize("kind", [kind for kind in KEY_KINDS if not kind.startswith("ml-dsa")])
def test_openssl_verifies_every_kind_of_issuing_key(kind, chain_files):
    issuer = issuing_ca(kind)
    directory = chain_files(issuer, issue(issuer, profile().admit(parsed_csr()), now=NOW))
    said = openssl(
        "verify", "-x509_strict", "-attime", str(NOW + 60),
        "-CAfile", directory / "root.pem", "-untrusted", directory / "issuing.pem",
        directory / "leaf.pem",
    )  # fmt: skip
    assert "leaf.pem: OK" in said


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_cryptography_verifies_every_kind_of_issuing_key(kind):
    issuer = issuing_ca(kind)
    issued = issue(issuer, profile().admit(parsed_csr()), now=NOW)
    parent = x509.load_der_x509_certificate(issuer.certificate)
    certificate_of(issued).verify_directly_issued_by(parent)
    assert lint_certificate(issued.der) == []


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_every_kind_of_subject_key_passes_pkilint(kind):
    made = profile(
        key_kinds=KEY_KINDS,
        key_usage=("digital_signature", "key_encipherment", "key_agreement"),
        policies=("1.3.6.1.4.1.99999.1",),
    )
    issued = issue(issuing_ca(), made.admit(parsed_csr(key=key_of_kind(kind, 1))), now=NOW)
    assert lint_certificate(issued.der) == []


def builder_twin(issued, csr_key):
    """The same certificate made by cryptography's own builder, extensions in the same order."""
    issuer = issuing_ca()
    parent = x509.load_der_x509_certificate(issuer.certificate)
    made = certificate_of(issued)
    uri = x509.UniformResourceIdentifier
    access = [
        x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, uri(issuer.ocsp_urls[0])),
        x509.AccessDescription(
            x509.AuthorityInformationAccessOID.CA_ISSUERS, uri(issuer.issuer_urls[0])
        ),
    ]
    usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"]
    usages += ["key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)
    point = x509.DistributionPoint([uri(issuer.crl_urls[0])], None, None, None)
    extensions = [
        (x509.AuthorityKeyIdentifier(issuer.key_id, None, None), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(**{usage: usage == "digital_signature" for usage in usages}), True),
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.CertificatePolicies([policy]), False),
        (x509.AuthorityInformationAccess(access), False),
        (x509.CRLDistributionPoints([point]), False),
        (made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value, False),
        (made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, False),
    ]
    start = datetime.datetime.fromtimestamp(NOW - 300, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .serial_number(issued.serial)
        .issuer_name(parent.subject)
        .subject_name(x509.Name.from_rfc4514_string("CN=host.example.org,O=Example"))
        .public_key(csr_key.public_key())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90, seconds=-1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key_of_kind("ec-p256", 200), hashes.SHA256())


def test_octets_equal_those_of_cryptographys_builder():
    made = profile(
        subject=(SubjectRule(attribute="organization"), SubjectRule(attribute="common_name")),
        policies=("1.2.3.4",),
    )
    key = key_of_kind("ec-p256", 1)
    names = ["dns:host.example.org", "ip:192.0.2.1", "ip:2001:db8::1", "uri:https://example.org/"]
    csr = parsed_csr("CN=host.example.org,O=Example", names, key=key)
    issued = issue(issuing_ca(), made.admit(csr), now=NOW)
    assert certificate_of(issued).tbs_certificate_bytes == (
        builder_twin(issued, key).tbs_certificate_bytes
    )


def test_record_fields_say_what_the_certificate_says():
    issued = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    certificate = certificate_of(issued)
    assert issued.serial == certificate.serial_number
    assert issued.subject == certificate.subject.rfc4514_string() == "CN=host.example.org"
    assert issued.names == ("host.example.org",)
    assert issued.fingerprint_sha256 == certificate.fingerprint(hashes.SHA256())
    assert issued.not_before == certificate.not_valid_before_utc.timestamp() == NOW - 300
    assert issued.not_after == certificate.not_valid_after_utc.timestamp()
    assert issued.authority_id == issuing_ca().authority_id
    assert issued.profile == "tls"


def test_validity_never_exceeds_the_profile():
    issued = issue(issuing_ca(), profile(validity_days=1).admit(parsed_csr()), now=NOW)
    assert issued.not_after - issued.not_before + 1 == 86400


def test_requested_validity_counts_from_now():
    issued = issue(issuing_ca(), profile().admit(parsed_csr(), validity_seconds=60), now=NOW)
    assert (issued.not_before, issued.not_after) == (NOW - 300, NOW + 59)


def test_validity_ends_with_the_issuers():
    issuer = issuing_ca()
    late = issuer.not_after - 1000
    issued = issue(issuer, profile().admit(parsed_csr()), now=late)
    assert issued.not_after == issuer.not_after


def test_validity_does_not_begin_before_the_issuers():
    issuer = issuing_ca()
    made = profile(backdate_seconds=86400)
    assert issue(issuer, made.admit(parsed_csr()), now=NOW).not_before == issuer.not_before


@pytest.mark.parametrize("beyond", [-10_000, 3651 * 86400])
def test_issuer_outside_its_validity_refuses(beyond):
    with pytest.raises(RequestRefused, match="not valid now"):
        issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW + beyond)


def test_issuers_own_key_is_refused():
    csr = parsed_csr(key=key_of_kind("ec-p256", 200))
    with pytest.raises(RequestRefused, match="own"):
        issue(issuing_ca(), profile().admit(csr), now=NOW)


def test_names_are_critical_without_a_subject():
    issued = issue(issuing_ca(), profile().admit(parsed_csr(subject="")), now=NOW)
    extensions = certificate_of(issued).extensions
    assert extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert issued.subject == ""


def test_encryption_usages_are_only_for_rsa():
    made = profile(key_usage=("digital_signature", "key_encipherment"))
    for kind, expected in (("rsa-2048", True), ("ec-p256", False), ("ed25519", False)):
        csr = parsed_csr(key=key_of_kind(kind, 1))
        issued = issue(issuing_ca(), made.admit(csr), now=NOW)
        usage = certificate_of(issued).extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_encipherment is expected


def test_profile_may_leave_out_usages_and_urls():
    made = profile(
        key_usage=(),
        extended_key_usage=(),
        include_ocsp_url=False,
        include_issuer_url=False,
        include_crl_url=False,
    )
    issued = issue(issuing_ca(), made.admit(parsed_csr()), now=NOW)
    present = {type(extension.value) for extension in certificate_of(issued).extensions}
    assert present == {
        x509.AuthorityKeyIdentifier,
        x509.BasicConstraints,
        x509.SubjectKeyIdentifier,
        x509.SubjectAlternativeName,
    }


def test_time_stamping_purpose_is_critical():
    issued = issue(
        issuing_ca(), profile(extended_key_usage=("time_stamping",)).admit(parsed_csr()), now=NOW
    )
    extensions = certificate_of(issued).extensions
    assert extensions.get_extension_for_class(x509.ExtendedKeyUsage).critical


def test_changed_profile_is_not_issued_from_the_old_ones_parts():
    before = issue(issuing_ca(), profile().admit(parsed_csr()), now=NOW)
    after = issue(
        issuing_ca(), profile(extended_key_usage=("client_auth",)).admit(parsed_csr()), now=NOW
    )
    usages = [
        certificate_of(issued).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for issued in (before, after)
    ]
    assert usages[0] != usages[1]


def test_remembered_parts_are_bounded(monkeypatch):
    monkeypatch.setattr("node_agent.pki.issue._MOST_REMEMBERED_PROFILES", 3)
    issuer = replace(issuing_ca(), static_extensions={})
    for _ in range(10):
        issue(issuer, profile().admit(parsed_csr()), now=NOW)
    assert len(issuer.static_extensions) <= 3


def test_serials_are_random_positive_and_at_most_20_octets():
    serials = {new_serial() for _ in range(2000)}
    assert len(serials) == 2000
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert all(len(der.integer(serial)) <= 22 for serial in serials)
    assert max(serial.bit_length() for serial in serials) == 159


def test_given_serial_is_used():
    admitted = profile().admit(parsed_csr())
    assert sign(prepare(issuing_ca(), admitted, now=NOW, serial=12345)).serial == 12345


def test_serial_of_no_certificate_is_not_signed():
    admitted = profile().admit(parsed_csr())
    for serial in (0, -5, 1 << 160):
        with pytest.raises(LintFailed, match="serial number"):
            sign(prepare(issuing_ca(), admitted, now=NOW, serial=serial))


def test_certificate_of_the_year_2050_uses_generalized_time():
    root = root_ca()
    late = 2524608000
    assert late < root.not_after or root.not_after > NOW
    made = profile(san=(SanRule(kind="dns"),))
    long_lived = replace(root, not_after=late + 10**8)
    issued = issue(long_lived, made.admit(parsed_csr()), now=late + 1000)
    assert certificate_of(issued).not_valid_before_utc.year == 2050
