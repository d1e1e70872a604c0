"""Chains that a peer may present, one function each, with the verdict."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.path_cases import Case, cases_in, judge, path_case
from tests.support.pki import ThrowawayAuthority, key_usage

URI = x509.UniformResourceIdentifier


# Structure.


@path_case
def anchor_issues_peer(case: Case) -> None:
    """``anchor -> peer``: what every node has. **valid**"""
    case.valid(case.root.authenticator("ra1")[1])


@path_case
def intermediate_from_configuration(case: Case) -> None:
    """``anchor -> sub CA (ours) -> peer``. **valid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.valid(sub.authenticator("ra1")[1], intermediates=[sub.certificate])


@path_case
def intermediate_from_the_peer(case: Case) -> None:
    """``anchor -> sub CA (sent) -> peer``. **valid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.valid(sub.authenticator("ra1")[1], sent=[sub.certificate])


@path_case
def subordinate_ca_is_the_anchor(case: Case) -> None:
    """``sub CA (anchor) -> peer``, its root unknown: an anchor needn't be self-signed. **valid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.valid(sub.authenticator("ra1")[1], anchors=[sub.certificate])


@path_case
def sibling_of_a_trusted_subordinate(case: Case) -> None:
    """``root -> other sub CA -> peer`` where only ``sub CA`` is trusted. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    other = ThrowawayAuthority("Other", parent=case.root)
    case.invalid(
        other.authenticator("ra1")[1],
        "no trusted issuer",
        anchors=[sub.certificate],
        sent=[other.certificate],
    )


@path_case
def missing_intermediate(case: Case) -> None:
    """``anchor -> (missing sub CA) -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.invalid(sub.authenticator("ra1")[1], "no trusted issuer CN=Sub")


@path_case
def foreign_root(case: Case) -> None:
    """``foreign root (sent) -> peer``: a root doesn't vouch for itself. **invalid**"""
    foreign = ThrowawayAuthority("Foreign")
    case.invalid(foreign.authenticator("ra1")[1], "no trusted issuer", sent=[foreign.certificate])


@path_case
def same_name_other_key(case: Case) -> None:
    """``impostor with the anchor's name -> peer``. **invalid**"""
    impostor = ThrowawayAuthority()
    case.invalid(impostor.authenticator("ra1")[1], "no trusted issuer", sent=[impostor.certificate])


@path_case
def self_signed_peer(case: Case) -> None:
    """``peer`` that signed itself. **invalid**"""
    lonely = ThrowawayAuthority("ra1", san=[URI("spiffe://test.example/node/ra1")])
    case.invalid(lonely.certificate, "no trusted issuer")


@path_case
def anchor_presents_itself(case: Case) -> None:
    """``anchor`` as the peer: its key signs certificates, it doesn't speak TLS. **invalid**"""
    case.invalid(case.root.certificate, "")


@path_case
def two_anchors_of_one_name(case: Case) -> None:
    """``old anchor | new anchor -> peer`` with equal names, during a key rollover. **valid**"""
    new = ThrowawayAuthority()
    anchors = [case.root.certificate, new.certificate]
    case.valid(new.authenticator("ra1")[1], anchors=anchors)


@path_case
def cross_signed_intermediate(case: Case) -> None:
    """``anchor -> sub CA -> peer`` where the sub CA also has a certificate of an unknown root that
    comes first: the search has to go on. **valid**
    """
    unknown = ThrowawayAuthority("Unknown root")
    sub = ThrowawayAuthority("Sub", parent=case.root)
    cross = ThrowawayAuthority("Sub", parent=unknown, key=sub.key)
    case.valid(sub.authenticator("ra1")[1], sent=[cross.certificate, sub.certificate])


@path_case
def chain_of_eight(case: Case) -> None:
    """``anchor -> six sub CAs -> peer``: the longest path that is followed. **valid**"""
    authorities = chain_below(case.root, 6)
    case.valid(authorities[-1].authenticator("ra1")[1], sent=[ca.certificate for ca in authorities])


@path_case
def chain_of_nine(case: Case) -> None:
    """``anchor -> seven sub CAs -> peer``. **invalid**"""
    authorities = chain_below(case.root, 7)
    case.invalid(
        authorities[-1].authenticator("ra1")[1],
        "longer than 8",
        sent=[ca.certificate for ca in authorities],
    )


@path_case
def loop_between_two_authorities(case: Case) -> None:
    """``A -> B -> A -> ... -> peer`` without an anchor: the search ends. **invalid**"""
    first = ThrowawayAuthority("A")
    second = ThrowawayAuthority("B", parent=first)
    back = ThrowawayAuthority("A", parent=second, key=first.key)
    case.invalid(
        first.authenticator("ra1")[1],
        "no trusted issuer",
        sent=[second.certificate, back.certificate],
    )


@path_case
def many_look_alike_issuers(case: Case) -> None:
    """``200 certificates with the issuer's name -> peer``: the work is bounded. **invalid**"""
    look_alikes = [ThrowawayAuthority("Sub").certificate for _ in range(200)]
    sub = ThrowawayAuthority("Sub", parent=case.root)
    case.invalid(sub.authenticator("ra1")[1], "too many signature checks", sent=look_alikes)


@path_case
def tampered_signature(case: Case) -> None:
    """``anchor -> peer`` with one bit of the signature changed. **invalid**"""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = bytearray(case.root.authenticator("ra1")[1].public_bytes(Encoding.DER))
    der[-1] ^= 1
    case.invalid(x509.load_der_x509_certificate(bytes(der)), "no trusted issuer")


# Time.


@path_case
def peer_expired(case: Case) -> None:
    """``anchor -> expired peer``. **invalid**"""
    case.invalid(case.root.authenticator("ra1", not_after_seconds=-1)[1], "expired")


@path_case
def peer_not_valid_yet(case: Case) -> None:
    """``anchor -> peer of tomorrow``. **invalid**"""
    case.invalid(case.root.authenticator("ra1", not_before_seconds=60)[1], "not valid yet")


@path_case
def last_second(case: Case) -> None:
    """``anchor -> peer`` in the second of its notAfter, which belongs to it. **valid**"""
    leaf = case.root.authenticator("ra1")[1]
    end = leaf.not_valid_after_utc.timestamp() - case.root.clock.now()
    case.valid(leaf, at=end - 0.5)


@path_case
def intermediate_expired(case: Case) -> None:
    """``anchor -> expired sub CA -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root, not_after_seconds=-1)
    case.invalid(sub.authenticator("ra1")[1], "expired", sent=[sub.certificate])


@path_case
def anchor_expired(case: Case) -> None:
    """``expired anchor -> peer``: RFC 5280 leaves it open, here trust has an end. **invalid**"""
    old = ThrowawayAuthority("Old", not_after_seconds=-1)
    case.invalid(old.authenticator("ra1")[1], "expired", anchors=[old.certificate])


# Basic constraints and usages.


@path_case
def peer_as_issuer(case: Case) -> None:
    """``anchor -> peer A -> peer B``: a stolen authenticator makes no others. **invalid**"""
    key, certificate = case.root.authenticator("ra1")
    forger = ThrowawayAuthority("unused", key=key)
    forger.certificate = certificate
    case.invalid(forger.authenticator("ca1")[1], "isn't a CA", sent=[certificate])


@path_case
def intermediate_without_basic_constraints(case: Case) -> None:
    """``anchor -> sub CA without basicConstraints -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root, basic_constraints=None)
    case.invalid(sub.authenticator("ra1")[1], "isn't a CA", sent=[sub.certificate])


@path_case
def intermediate_may_not_sign_certificates(case: Case) -> None:
    """``anchor -> sub CA with cRLSign only -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root, key_usage=key_usage("crl_sign"))
    case.invalid(
        sub.authenticator("ra1")[1], "doesn't allow signing certificates", sent=[sub.certificate]
    )


@path_case
def path_length_exceeded(case: Case) -> None:
    """``anchor -> sub CA (pathLen 0) -> sub sub CA -> peer``. **invalid**"""
    limited = x509.BasicConstraints(ca=True, path_length=0)
    sub = ThrowawayAuthority("Sub", parent=case.root, basic_constraints=limited)
    deep = ThrowawayAuthority("Deep", parent=sub)
    case.invalid(
        deep.authenticator("ra1")[1],
        "path length 0 is exceeded",
        sent=[deep.certificate, sub.certificate],
    )


@path_case
def path_length_just_enough(case: Case) -> None:
    """``anchor -> sub CA (pathLen 0) -> peer``. **valid**"""
    limited = x509.BasicConstraints(ca=True, path_length=0)
    sub = ThrowawayAuthority("Sub", parent=case.root, basic_constraints=limited)
    case.valid(sub.authenticator("ra1")[1], sent=[sub.certificate])


@path_case
def path_length_of_the_anchor_counts(case: Case) -> None:
    """``anchor (pathLen 0) -> sub CA -> peer``. **invalid**"""
    anchor = ThrowawayAuthority(
        "Anchor", basic_constraints=x509.BasicConstraints(ca=True, path_length=0)
    )
    sub = ThrowawayAuthority("Sub", parent=anchor)
    case.invalid(
        sub.authenticator("ra1")[1],
        "path length 0 is exceeded",
        anchors=[anchor.certificate],
        sent=[sub.certificate],
    )


@path_case
def ca_as_peer(case: Case) -> None:
    """``anchor -> CA certificate with peer usages and a node name``. **invalid**"""
    leaf = case.root.authenticator(
        "ra1", basic_constraints=x509.BasicConstraints(ca=True, path_length=None)
    )[1]
    case.invalid(leaf, "a CA can't be a peer")


@path_case
def no_extended_key_usage(case: Case) -> None:
    """``anchor -> peer without extendedKeyUsage``. **invalid**"""
    leaf = case.root.authenticator("ra1", extended_key_usage=None)[1]
    case.invalid(leaf, "extended key usage")


@path_case
def client_usage_only(case: Case) -> None:
    """``anchor -> peer with clientAuth only``: links go both ways. **invalid**"""
    leaf = case.root.authenticator("ra1", extended_key_usage=[ExtendedKeyUsageOID.CLIENT_AUTH])[1]
    case.invalid(leaf, "extended key usage")


@path_case
def any_extended_key_usage(case: Case) -> None:
    """``anchor -> peer with anyExtendedKeyUsage``: not made for this. **invalid**"""
    usage = [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
    case.invalid(case.root.authenticator("ra1", extended_key_usage=usage)[1], "extended key usage")


@path_case
def ocsp_signer_as_peer(case: Case) -> None:
    """``anchor -> certificate for OCSP signing with a node name``. **invalid**"""
    usage = [ExtendedKeyUsageOID.OCSP_SIGNING]
    case.invalid(case.root.authenticator("ra1", extended_key_usage=usage)[1], "extended key usage")


@path_case
def peer_without_digital_signature(case: Case) -> None:
    """``anchor -> peer with keyEncipherment only``: TLS 1.3 signs. **invalid**"""
    leaf = case.root.authenticator("ra1", key_usage=key_usage("key_encipherment"))[1]
    case.invalid(leaf, "doesn't allow signatures")


@path_case
def peer_without_key_usage(case: Case) -> None:
    """``anchor -> peer without keyUsage``: nothing is restricted. **valid**"""
    case.valid(case.root.authenticator("ra1", key_usage=None)[1])


# Algorithms.


@path_case
def ed25519_peer(case: Case) -> None:
    """``anchor -> Ed25519 peer``. **valid**"""
    case.valid(case.root.authenticator("ra1", key=ed25519.Ed25519PrivateKey.generate())[1])


@path_case
def edwards_curve_anchor(case: Case) -> None:
    """``Ed448 anchor -> peer``. **valid**"""
    anchor = ThrowawayAuthority(key=ed448.Ed448PrivateKey.generate())
    case.valid(anchor.authenticator("ra1")[1], anchors=[anchor.certificate])


@path_case
def short_rsa_peer(case: Case) -> None:
    """``anchor -> peer with RSA 1024``. **invalid**"""
    key = rsa.generate_private_key(65537, 1024)
    case.invalid(case.root.authenticator("ra1", key=key)[1], "RSA key of 1024 bits")


@path_case
def short_curve_peer(case: Case) -> None:
    """``anchor -> peer on P-224``. **invalid**"""
    key = ec.generate_private_key(ec.SECP224R1())
    case.invalid(case.root.authenticator("ra1", key=key)[1], "EC key of 224 bits")


# Names.


@path_case
def no_node_name(case: Case) -> None:
    """``anchor -> certificate with a DNS name only``. **invalid**"""
    leaf = case.root.authenticator("ra1", san=[x509.DNSName("ra1.test.example")])[1]
    case.invalid(leaf, "names 0 URIs")


@path_case
def two_node_names(case: Case) -> None:
    """``anchor -> certificate with two nodes``: different checks could see different ones.
    **invalid**
    """
    both = [URI("spiffe://test.example/node/ra1"), URI("spiffe://test.example/node/ca1")]
    case.invalid(case.root.authenticator("ra1", san=both)[1], "names 2 URIs")


@path_case
def workload_of_the_same_trust_domain(case: Case) -> None:
    """``anchor -> certificate of a SPIFFE workload that is no node``. **invalid**"""
    leaf = case.root.authenticator("ra1", san=[URI("spiffe://test.example/workload/web")])[1]
    case.invalid(leaf, "names no node")


@path_case
def node_name_beside_a_host_name(case: Case) -> None:
    """``anchor -> peer with its node URI and a DNS name``. **valid**"""
    san = [URI("spiffe://test.example/node/ra1"), x509.DNSName("ra1.test.example")]
    case.valid(case.root.authenticator("ra1", san=san)[1])


@path_case
def issuer_name_in_another_case(case: Case) -> None:
    """``anchor -> peer whose issuer is spelt in capitals``: no folding here. **invalid**"""
    shouted = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "THROWAWAY"),
            x509.NameAttribute(NameOID.COMMON_NAME, "TEST MANAGEMENT CA"),
        ]
    )
    case.invalid(case.root.authenticator("ra1", issuer=shouted)[1], "no trusted issuer")


# Name constraints.


def constrained(case: Case, **subtrees: list[x509.GeneralName] | None) -> ThrowawayAuthority:
    constraints = x509.NameConstraints(
        permitted_subtrees=subtrees.get("permitted"), excluded_subtrees=subtrees.get("excluded")
    )
    return ThrowawayAuthority("Sub", parent=case.root, name_constraints=constraints)


@path_case
def node_inside_the_permitted_domain(case: Case) -> None:
    """``anchor -> sub CA (permitted URI host test.example) -> peer``. **valid**"""
    sub = constrained(case, permitted=[URI("test.example")])
    case.valid(sub.authenticator("ra1")[1], sent=[sub.certificate])


@path_case
def node_outside_the_permitted_domain(case: Case) -> None:
    """``anchor -> sub CA (permitted URI host other.example) -> peer``. **invalid**"""
    sub = constrained(case, permitted=[URI("other.example")])
    case.invalid(
        sub.authenticator("ra1")[1], "outside the permitted subtrees", sent=[sub.certificate]
    )


@path_case
def permitted_subdomains_do_not_include_the_domain(case: Case) -> None:
    """``anchor -> sub CA (permitted URI .test.example) -> peer of test.example``. **invalid**"""
    sub = constrained(case, permitted=[URI(".test.example")])
    case.invalid(sub.authenticator("ra1")[1], "outside", sent=[sub.certificate])


@path_case
def node_in_the_excluded_domain(case: Case) -> None:
    """``anchor -> sub CA (excluded URI host test.example) -> peer``. **invalid**"""
    sub = constrained(case, excluded=[URI("test.example")])
    case.invalid(sub.authenticator("ra1")[1], "excluded", sent=[sub.certificate])


@path_case
def subject_outside_the_permitted_directory(case: Case) -> None:
    """``anchor -> sub CA (permitted directory O=Other) -> peer of O=Throwaway``. **invalid**"""
    other = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")])
    sub = constrained(case, permitted=[x509.DirectoryName(other)])
    case.invalid(sub.authenticator("ra1")[1], "outside", sent=[sub.certificate])


@path_case
def host_name_in_an_excluded_domain(case: Case) -> None:
    """``anchor -> sub CA (excluded DNS test.example) -> ra1.test.example``. **invalid**"""
    sub = constrained(case, excluded=[x509.DNSName("test.example")])
    san = [URI("spiffe://test.example/node/ra1"), x509.DNSName("RA1.test.example.")]
    case.invalid(sub.authenticator("ra1", san=san)[1], "excluded", sent=[sub.certificate])


@path_case
def address_outside_the_permitted_network(case: Case) -> None:
    """``anchor -> sub CA (permitted 10.0.0.0/8) -> peer with 192.0.2.1``. **invalid**"""
    sub = constrained(case, permitted=[x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))])
    san = [
        URI("spiffe://test.example/node/ra1"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
    ]
    case.invalid(sub.authenticator("ra1", san=san)[1], "outside", sent=[sub.certificate])


@path_case
def address_of_another_family(case: Case) -> None:
    """``anchor -> sub CA (permitted 10.0.0.0/8) -> peer with ::1``. **invalid**"""
    sub = constrained(case, permitted=[x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))])
    san = [URI("spiffe://test.example/node/ra1"), x509.IPAddress(ipaddress.ip_address("::1"))]
    case.invalid(sub.authenticator("ra1", san=san)[1], "outside", sent=[sub.certificate])


@path_case
def constraint_of_a_kind_that_is_not_understood(case: Case) -> None:
    """``anchor -> sub CA (excluded registered id) -> peer with a registered id``. **invalid**"""
    registered = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
    sub = constrained(case, excluded=[registered])
    san = [URI("spiffe://test.example/node/ra1"), x509.RegisteredID(NameOID.COMMON_NAME)]
    case.invalid(sub.authenticator("ra1", san=san)[1], "excluded", sent=[sub.certificate])


@path_case
def constraint_of_a_kind_that_does_not_occur(case: Case) -> None:
    """``anchor -> sub CA (permitted e-mail) -> peer without e-mail``. **valid**"""
    sub = constrained(case, permitted=[x509.RFC822Name("test.example")])
    case.valid(sub.authenticator("ra1")[1], sent=[sub.certificate])


@path_case
def constraint_reaches_down_two_levels(case: Case) -> None:
    """``anchor -> sub CA (permitted other.example) -> deep CA -> peer``. **invalid**"""
    sub = constrained(case, permitted=[URI("other.example")])
    deep = ThrowawayAuthority("Deep", parent=sub)
    case.invalid(deep.authenticator("ra1")[1], "outside", sent=[deep.certificate, sub.certificate])


@path_case
def constraint_of_the_anchor_counts(case: Case) -> None:
    """``anchor (permitted other.example) -> peer``. **invalid**"""
    constraints = x509.NameConstraints([URI("other.example")], None)
    anchor = ThrowawayAuthority("Anchor", name_constraints=constraints)
    case.invalid(anchor.authenticator("ra1")[1], "outside", anchors=[anchor.certificate])


# Extensions.

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


@path_case
def unknown_critical_extension(case: Case) -> None:
    """``anchor -> peer with an unknown critical extension``. **invalid**"""
    leaf = case.root.authenticator("ra1", extra_extensions=[(UNKNOWN, True)])[1]
    case.invalid(leaf, "1.3.6.1.4.1.99999.1 isn't understood")


@path_case
def unknown_extension(case: Case) -> None:
    """``anchor -> peer with an unknown extension that isn't critical``. **valid**"""
    case.valid(case.root.authenticator("ra1", extra_extensions=[(UNKNOWN, False)])[1])


@path_case
def unknown_critical_extension_in_an_issuer(case: Case) -> None:
    """``anchor -> sub CA with an unknown critical extension -> peer``. **invalid**"""
    sub = ThrowawayAuthority("Sub", parent=case.root, extra_extensions=[(UNKNOWN, True)])
    case.invalid(sub.authenticator("ra1")[1], "isn't understood", sent=[sub.certificate])


@path_case
def critical_policy_constraints(case: Case) -> None:
    """``anchor -> sub CA with policyConstraints -> peer``: not processed. **invalid**"""
    constraints = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    sub = ThrowawayAuthority("Sub", parent=case.root, extra_extensions=[(constraints, True)])
    case.invalid(sub.authenticator("ra1")[1], "isn't understood", sent=[sub.certificate])


def chain_below(authority: ThrowawayAuthority, count: int) -> list[ThrowawayAuthority]:
    authorities: list[ThrowawayAuthority] = []
    for number in range(count):
        parent = authorities[-1] if authorities else authority
        authorities.append(ThrowawayAuthority(f"Sub {number}", parent=parent))
    return authorities


@pytest.mark.parametrize("name", cases_in(__name__))
def test_path_case(name: str) -> None:
    case = judge(name)
    assert case.is_valid is not bool(case.fault), case.fault or "accepted"
    assert case.because in case.fault
