"""Which peer issuers a node takes: one trust domain, one issuer; one CA, one trust domain."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization

from node_agent.errors import ConfigError
from node_agent.functions.peer_issuers import check_peer_issuers
from node_agent.functions.plan import copy_objects, plan_object
from node_agent.identity import NodeIdentity
from node_agent.objects import AuthenticatorSpec, PeerIssuerSpec
from tests.support.pki import ThrowawayAuthority, certificate_pem, name

NODE = NodeIdentity("pki.example.org", "proxy1")
OWN = ThrowawayAuthority("Operator")
ACME = ThrowawayAuthority("Acme")
BETA = ThrowawayAuthority("Beta")


def issuer(
    label: str, *authorities: ThrowawayAuthority, crls: tuple[str, ...] = ()
) -> PeerIssuerSpec:
    return PeerIssuerSpec(
        name=label,
        trust_domain=f"{label}.example",
        trust_anchors=tuple(certificate_pem(item.certificate) for item in authorities),
        crls=crls,
    )


def crl(authority: ThrowawayAuthority, number: int) -> str:
    return authority.crl(number=number).public_bytes(serialization.Encoding.PEM).decode()


def put(*specs: PeerIssuerSpec | AuthenticatorSpec) -> list[PeerIssuerSpec]:
    """Put one after the other, as an operator does; return the issuers."""
    objects: dict[str, dict[str, object]] = {}
    for spec in specs:
        kind = "peer_issuers" if isinstance(spec, PeerIssuerSpec) else "authenticators"
        steps = plan_object(objects, kind, spec.name, spec)  # type: ignore[arg-type]
        objects = copy_objects(objects, steps)  # type: ignore[arg-type, assignment]
        check_peer_issuers(objects, steps, NODE)  # type: ignore[arg-type]
    return [item for item in objects["peer_issuers"].values() if isinstance(item, PeerIssuerSpec)]


OURS = AuthenticatorSpec(name="peer", trust_anchors=(certificate_pem(OWN.certificate),))


def test_tenants_with_cas_of_their_own_are_taken() -> None:
    assert len(put(OURS, issuer("acme", ACME), issuer("beta", BETA))) == 2


def test_a_ca_that_is_renewed_stands_beside_its_successor() -> None:
    successor = ThrowawayAuthority("Acme")
    assert put(OURS, issuer("acme", ACME), issuer("acme", ACME, successor))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (ACME, "has the certificate of peer_issuers.acme"),
        (ThrowawayAuthority("New name", key=ACME.key), "has the key of peer_issuers.acme"),
        (ThrowawayAuthority("Acme"), "has the subject of peer_issuers.acme"),
        (OWN, "has the certificate of this node's own Management CA"),
        (ThrowawayAuthority("X", key=OWN.key), "has the key of this node's own Management CA"),
        (ThrowawayAuthority("Operator"), "has the subject of this node's own Management CA"),
    ],
)
def test_what_is_anothers_is_refused(other: ThrowawayAuthority, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        put(OURS, issuer("acme", ACME), issuer("beta", other))
    assert caught.value.where == "peer_issuers.beta.trust_anchors"
    assert "Management CA of its own" in caught.value.remedy


def test_our_own_management_ca_cannot_become_a_tenants() -> None:
    with pytest.raises(ConfigError, match="this node's own Management CA"):
        put(issuer("acme", OWN), OURS)


def test_a_ca_between_our_own_anchor_and_us_is_ours_too() -> None:
    between = ThrowawayAuthority("Between", parent=OWN)
    leaf = between.authenticator("proxy1", "pki.example.org")[1]
    ours = AuthenticatorSpec(
        name="peer",
        certificate=certificate_pem(leaf, between.certificate),
        trust_anchors=OURS.trust_anchors,
    )
    with pytest.raises(ConfigError, match="has the subject of this node's own"):
        put(ours, issuer("acme", ThrowawayAuthority("x", subject=name("Between"))))


def test_a_trust_domain_has_one_issuer() -> None:
    double = PeerIssuerSpec(
        name="again", trust_domain="acme.example", trust_anchors=issuer("beta", BETA).trust_anchors
    )
    with pytest.raises(ConfigError, match=r"is the trust domain of peer_issuers\.acme"):
        put(issuer("acme", ACME), double)
    own = PeerIssuerSpec(
        name="own", trust_domain="pki.example.org", trust_anchors=double.trust_anchors
    )
    with pytest.raises(ConfigError, match="is the trust domain of this node"):
        put(own)


def test_absent_crls_stay_and_older_ones_are_refused() -> None:
    (kept,) = put(issuer("acme", ACME, crls=(crl(ACME, 7),)), issuer("acme", ACME))
    assert kept.crls
    (newer,) = put(
        issuer("acme", ACME, crls=(crl(ACME, 7),)), issuer("acme", ACME, crls=(crl(ACME, 8),))
    )
    assert newer.crls != kept.crls
    with pytest.raises(ConfigError, match="forget revocations"):
        put(issuer("acme", ACME, crls=(crl(ACME, 7),)), issuer("acme", ACME, crls=(crl(ACME, 6),)))
