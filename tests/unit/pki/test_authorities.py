"""CA certificates, authenticators, server certificates and OCSP signers."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from node_agent.errors import ConfigError, LintFailed, RequestRefused
from node_agent.identity import NodeIdentity
from node_agent.pki import authorities
from node_agent.pki.issue import sign
from node_agent.pki.issuer import Issuer
from node_agent.pki.keys import LocalKey
from node_agent.pki.names import parse_name
from node_agent.pki.sample_lint import lint_certificate
from tests.support.csrs import NOW, issuing_ca, key_of_kind, openssl, pem, root_ca

IDENTITY = NodeIdentity("pki.example.org", "ra1")


def spki(which=1):
    return LocalKey.of(key_of_kind("ec-p256", which)).spki


def management_ca():
    key = LocalKey.of(key_of_kind("ec-p256", 150))
    made = sign(
        authorities.prepare_self_signed_ca(
            key, parse_name("CN=Management CA"), kind="management", now=NOW, validity_days=3650
        )
    )
    return Issuer.load(key, [made.der])


def parsed(issued):
    lint_certificate(issued.der)
    return x509.load_der_x509_certificate(issued.der)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_root_is_self_signed_and_unlimited():
    certificate = x509.load_der_x509_certificate(root_ca().certificate)
    certificate.verify_directly_issued_by(certificate)
    constraints = extension(certificate, x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, None)
    usage = extension(certificate, x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert lint_certificate(root_ca().certificate) == []


def test_issuing_ca_has_path_length_zero_and_any_policy():
    certificate = x509.load_der_x509_certificate(issuing_ca().certificate)
    assert extension(certificate, x509.BasicConstraints).value.path_length == 0
    policies = extension(certificate, x509.CertificatePolicies).value
    assert [policy.policy_identifier.dotted_string for policy in policies] == ["2.5.29.32.0"]
    assert lint_certificate(issuing_ca().certificate) == []


def test_authority_id_of_the_certificate_is_its_issuers():
    made = authorities.prepare_issuing_ca(
        root_ca(), spki(), parse_name("CN=Other"), now=NOW, validity_days=10
    )
    assert sign(made).authority_id == root_ca().authority_id
    assert issuing_ca().authority_id != root_ca().authority_id


def test_self_signed_certificate_belongs_to_its_own_authority():
    key = LocalKey.of(key_of_kind("ec-p256", 151))
    made = sign(
        authorities.prepare_self_signed_ca(
            key, parse_name("CN=Root"), kind="root", now=NOW, validity_days=10
        )
    )
    assert made.authority_id == Issuer.load(key, [made.der]).authority_id
    assert made.profile == "builtin.root"


def test_ca_without_a_subject_is_refused():
    key = LocalKey.of(key_of_kind("ec-p256", 151))
    with pytest.raises(ConfigError, match="subject"):
        authorities.prepare_self_signed_ca(key, (), kind="root", now=NOW, validity_days=10)
    with pytest.raises(ConfigError, match="subject"):
        authorities.prepare_issuing_ca(root_ca(), spki(), (), now=NOW, validity_days=10)


def test_ca_below_its_own_name_is_refused():
    with pytest.raises(ConfigError, match="name"):
        authorities.prepare_issuing_ca(
            root_ca(),
            spki(),
            parse_name("CN=Test Root,O=Example,C=DE"),
            now=NOW,
            validity_days=10,
        )


@pytest.mark.parametrize(("above", "below"), [(0, None), (1, 1), (2, 5)])
def test_path_length_leaves_no_room(above, below):
    with pytest.raises(ConfigError, match="path length"):
        authorities.prepare_issuing_ca(
            root_ca(path_length=above),
            spki(),
            parse_name("CN=Below"),
            now=NOW,
            validity_days=10,
            path_length=below,
        )


def test_path_length_that_fits_is_granted():
    made = authorities.prepare_issuing_ca(
        root_ca(path_length=2),
        spki(),
        parse_name("CN=Below"),
        now=NOW,
        validity_days=10,
        path_length=1,
    )
    assert extension(parsed(sign(made)), x509.BasicConstraints).value.path_length == 1


def test_management_ca_issues_nothing_below():
    assert management_ca().path_length == 0
    with pytest.raises(ConfigError):
        authorities.prepare_issuing_ca(
            management_ca(), spki(), parse_name("CN=Below"), now=NOW, validity_days=10
        )


def test_authenticator_names_the_node_for_both_ends(tmp_path):
    made = authorities.prepare_authenticator(
        management_ca(), spki(), IDENTITY, now=NOW, validity_seconds=86400
    )
    issued = sign(made)
    # pkilint knows the URI schemes of the web alone; it must find nothing but that.
    with pytest.raises(LintFailed) as found:
        lint_certificate(issued.der)
    assert [finding.split()[0] for finding in found.value.findings] == ["pkix.invalid_uri_syntax"]
    certificate = x509.load_der_x509_certificate(issued.der)
    names = extension(certificate, x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://pki.example.org/node/ra1"]
    purposes = list(extension(certificate, x509.ExtendedKeyUsage).value)
    assert purposes == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (issued.not_before, issued.not_after) == (NOW - 300, NOW + 86399)
    (tmp_path / "ca.pem").write_bytes(pem("CERTIFICATE", management_ca().certificate))
    (tmp_path / "node.pem").write_bytes(pem("CERTIFICATE", issued.der))
    for purpose in ("sslserver", "sslclient"):
        openssl(
            "verify", "-x509_strict", "-purpose", purpose, "-attime", str(NOW + 1),
            "-CAfile", tmp_path / "ca.pem", tmp_path / "node.pem",
        )  # fmt: skip


def test_server_certificate_is_no_authenticator():
    made = authorities.prepare_server(
        management_ca(),
        spki(),
        dns_names=["RA1.example.org", "ra1.example.org"],
        ip_addresses=["127.0.0.12"],
        now=NOW,
        validity_seconds=86400,
    )
    certificate = parsed(sign(made))
    names = extension(certificate, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ra1.example.org"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert (
        ExtendedKeyUsageOID.CLIENT_AUTH not in extension(certificate, x509.ExtendedKeyUsage).value
    )


def test_server_name_too_long_for_a_common_name_stands_in_the_names_alone():
    long = ".".join(["a" * 40] * 3) + ".example"
    made = authorities.prepare_server(
        management_ca(), spki(), dns_names=[long], ip_addresses=[], now=NOW, validity_seconds=60
    )
    certificate = parsed(sign(made))
    assert list(certificate.subject) == []
    assert extension(certificate, x509.SubjectAlternativeName).critical


@pytest.mark.parametrize("dns_names", [[], ["*.example.org"], ["under_score.example"]])
def test_server_without_a_certifiable_name_is_refused(dns_names):
    with pytest.raises(RequestRefused):
        authorities.prepare_server(
            management_ca(),
            spki(),
            dns_names=dns_names,
            ip_addresses=[],
            now=NOW,
            validity_seconds=60,
        )


def test_ocsp_signer_is_delegated_and_not_checked():
    made = authorities.prepare_ocsp_signer(
        issuing_ca(), spki(), common_name="OCSP signer " * 10, now=NOW, validity_seconds=86400
    )
    certificate = parsed(sign(made))
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.OCSP_SIGNING
    ]
    assert extension(certificate, x509.OCSPNoCheck)
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificate, x509.CRLDistributionPoints)


def test_ca_may_outlive_the_calendar():
    made = authorities.prepare_self_signed_ca(
        LocalKey.of(key_of_kind("ec-p256", 151)),
        parse_name("CN=Forever"),
        kind="root",
        now=NOW,
        validity_days=10_000_000,
    )
    assert parsed(sign(made)).not_valid_after_utc.year == 9999
