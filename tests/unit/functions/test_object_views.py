"""What the admin API says of objects beyond their specification."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from node_agent.functions.object_views import needs_certificate
from node_agent.objects import AuthenticatorSpec
from tests.support.pki import CertificateDraft, ThrowawayAuthority, certificate_pem, name


@pytest.fixture(scope="module")
def certificate() -> str:
    """A server certificate for ``ra1.example.org`` and two addresses."""
    draft = CertificateDraft(
        subject=name("ra1"),
        san=[
            x509.DNSName("ra1.example.org"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        ],
    )
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate_pem(ThrowawayAuthority().issue(draft, key))


def server(certificate: str | None, dns_names: tuple[str, ...], *ips: str) -> AuthenticatorSpec:
    return AuthenticatorSpec(
        name="rest",
        purpose="server",
        dns_names=dns_names,
        ip_addresses=ips,
        certificate=certificate,
    )


def test_without_one_a_certificate_is_needed() -> None:
    assert needs_certificate(AuthenticatorSpec(name="peer"))
    assert needs_certificate(server(None, ("ra1.example.org",)))


def test_certificate_for_the_same_names_is_enough_however_they_are_written(
    certificate: str,
) -> None:
    wanted = server(certificate, ("RA1.example.org",), "2001:DB8:0::1", "192.0.2.1")
    assert not needs_certificate(wanted)


@pytest.mark.parametrize(
    ("dns_names", "ips"),
    [
        (("ra1.example.org",), ("192.0.2.77", "2001:db8::1")),
        (("ra1.example.org",), ("192.0.2.1",)),
        (("ra.example.org",), ("192.0.2.1", "2001:db8::1")),
        (("ra1.example.org", "ra.example.org"), ("192.0.2.1", "2001:db8::1")),
        ((), ("192.0.2.1", "2001:db8::1")),
        (("ra1.example.org",), ("192.0.2.1", "no address")),
    ],
)
def test_names_or_addresses_that_changed_need_a_new_certificate(
    certificate: str, dns_names: tuple[str, ...], ips: tuple[str, ...]
) -> None:
    assert needs_certificate(server(certificate, dns_names, *ips))


def test_identity_of_a_node_never_changes() -> None:
    _key, certificate = ThrowawayAuthority().authenticator("ra1")
    spec = AuthenticatorSpec(name="peer", certificate=certificate_pem(certificate))
    assert not needs_certificate(spec)
