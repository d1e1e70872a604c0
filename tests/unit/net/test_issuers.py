"""Whose certificate proves which node, where several trust domains meet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from node_agent.errors import ConfigError, HandshakeError
from node_agent.net import LinkState, TlsIdentity
from node_agent.net.issuers import PeerIssuer
from tests.support.event_loop import run
from tests.support.links import linked
from tests.support.pki import TRUST_DOMAIN, ThrowawayAuthority, certificate_pem

if TYPE_CHECKING:
    from cryptography import x509

    from node_agent.identity import PeerIdentity

OWN = ThrowawayAuthority("Operator")
ACME = ThrowawayAuthority("Acme")
BETA = ThrowawayAuthority("Beta")
ACME_ISSUER = PeerIssuer("acme.example", (ACME.certificate,))
BETA_ISSUER = PeerIssuer("beta.example", (BETA.certificate,))


def node(*issuers: PeerIssuer) -> TlsIdentity:
    """Return the operator's proxy, which trusts these beside its own Management CA."""
    own = OWN.tls_identity("proxy1")
    return TlsIdentity(
        private_key=own.private_key,
        chain=own.chain,
        trust_anchors=own.trust_anchors,
        peer_issuers=issuers,
    )


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [item.public_bytes(serialization.Encoding.DER) for item in certificates]


def seen(
    identity: TlsIdentity, issuer: ThrowawayAuthority, trust_domain: str, name: str = "ra1"
) -> PeerIdentity:
    return identity.verify_peer(der(issuer.authenticator(name, trust_domain)[1]))


def refusal(identity: TlsIdentity, issuer: ThrowawayAuthority, trust_domain: str) -> str:
    with pytest.raises(HandshakeError) as caught:
        seen(identity, issuer, trust_domain)
    return str(caught.value)


def test_each_issuer_vouches_for_its_own_trust_domain() -> None:
    identity = node(ACME_ISSUER, BETA_ISSUER)
    for issuer, domain in ((ACME, "acme.example"), (BETA, "beta.example"), (OWN, TRUST_DOMAIN)):
        assert seen(identity, issuer, domain).node.trust_domain == domain


@pytest.mark.parametrize("name", ["proxy1", "ca1", "ra1"])
@pytest.mark.parametrize(
    ("issuer", "domain"),
    [
        (ACME, TRUST_DOMAIN),
        (ACME, "beta.example"),
        (ACME, "elsewhere.example"),
        (OWN, "acme.example"),
        (OWN, "elsewhere.example"),
    ],
)
def test_no_issuer_vouches_for_a_node_of_another_trust_domain(
    issuer: ThrowawayAuthority, domain: str, name: str
) -> None:
    with pytest.raises(HandshakeError, match="doesn't vouch for nodes of"):
        seen(node(ACME_ISSUER, BETA_ISSUER), issuer, domain, name)


def test_a_tenant_cannot_tell_whether_another_is_here() -> None:
    said = refusal(node(ACME_ISSUER, BETA_ISSUER), ACME, "beta.example")
    assert said == refusal(node(ACME_ISSUER), ACME, "beta.example")


def test_without_its_issuer_a_tenants_node_is_a_stranger() -> None:
    assert "no trusted issuer" in refusal(node(BETA_ISSUER), ACME, "acme.example")


def test_nothing_stands_between_an_issuer_and_an_authenticator() -> None:
    """The tenant calls a CA of its own like the operator's: pins of serials go by that name."""
    posing = ThrowawayAuthority("Operator", parent=ACME)
    leaf = posing.authenticator("ra1", "acme.example")[1]
    with pytest.raises(HandshakeError, match="signed it itself"):
        node(ACME_ISSUER).verify_peer(der(leaf, posing.certificate))


def test_an_issuer_revokes_its_own_nodes_and_nobody_elses() -> None:
    mine = ACME.authenticator("ra1", "acme.example")[1]
    other = BETA.authenticator("ra1", "beta.example", serial=mine.serial_number)[1]
    issuer = replace(ACME_ISSUER, crls=(ACME.crl([mine]),))
    identity = node(issuer, BETA_ISSUER)
    with pytest.raises(HandshakeError, match="revoked"):
        identity.verify_peer(der(mine))
    assert identity.verify_peer(der(other)).node.trust_domain == "beta.example"


def test_one_anchor_for_two_trust_domains_is_refused() -> None:
    for issuers in (
        (ACME_ISSUER, replace(ACME_ISSUER, trust_domain="beta.example")),
        (PeerIssuer("acme.example", (OWN.certificate,)),),
    ):
        with pytest.raises(ConfigError, match="another trust domain's too"):
            node(*issuers)


@pytest.mark.parametrize(
    ("trust_domain", "anchors", "crls", "fault"),
    [
        ("Acme", [certificate_pem(ACME.certificate)], [], "peer_issuers.a.trust_domain"),
        ("acme.example", [], [], "peer_issuers.a.trust_anchors"),
        ("acme.example", ["-----"], [], "trust_anchors.0.*isn't readable PEM"),
        (
            "acme.example",
            [certificate_pem(ACME.authenticator("ra1")[1])],
            [],
            "trust_anchors.0.*isn't a CA",
        ),
        ("acme.example", [certificate_pem(ACME.certificate)], ["?"], "crls.0.*isn't readable"),
        (
            "acme.example",
            [certificate_pem(ACME.certificate)],
            [BETA.crl().public_bytes(serialization.Encoding.PEM).decode()],
            "no trusted CA signed it",
        ),
    ],
)
def test_what_an_issuer_cannot_be_is_refused_by_its_field(
    trust_domain: str, anchors: list[str], crls: list[str], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        PeerIssuer.from_pem(trust_domain, anchors, crls, where="peer_issuers.a")


def test_an_issuer_comes_and_goes_while_others_links_are_up() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            own = ends.listening.current
            tenant = ACME.holder("ra1", trust_domain="acme.example")
            # The tenant's side knows the operator as a peer issuer of its own.
            ours = PeerIssuer(own.node.trust_domain, tuple(own.trust_anchors))
            tenant.replace(_with_issuers(tenant.current, ours))
            with pytest.raises(HandshakeError):
                await ends.dial(identity=tenant)
            ends.listening.replace(_with_issuers(own, ACME_ISSUER))
            link = await ends.dial(identity=tenant)
            assert link.state is LinkState.OPEN
            ends.listening.replace(_with_issuers(own))
            async with asyncio.timeout(1):
                await link.wait_closed()
            assert (near.state, far.state) == (LinkState.OPEN, LinkState.OPEN)

    run(scenario())


def _with_issuers(identity: TlsIdentity, *issuers: PeerIssuer) -> TlsIdentity:
    return TlsIdentity(
        private_key=identity.private_key,
        chain=identity.chain,
        trust_anchors=identity.trust_anchors,
        peer_issuers=issuers,
    )
