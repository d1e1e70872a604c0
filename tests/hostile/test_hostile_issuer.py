"""A tenant's Management CA is in hostile hands and certifies whatever name it likes.

It makes nodes of its own trust domain, and those may do what their role says. Every other name that
it signs is worth nothing: on a link, and as the origin of a request that an honest link brings.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from node_agent.errors import NetworkError
from node_agent.net import IdentityHolder, TlsIdentity
from node_agent.net.issuers import PeerIssuer
from node_agent.peers.codec import ENCODER
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import SEARCH, SearchRequest
from node_agent.wire.codes import Status
from tests.support.chains import Chain
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.processes import wait_until
from tests.support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)

POSES = ["near", "ca1", "proxy1", "spiffe://beta.example/node/ra1", "spiffe://x.example/node/ra1"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The operator's nodes, and the issuers and roles of two tenants."""
    with Chain(
        tmp_path_factory.mktemp("operator"),
        cas={"ca1": ("issuing",)},
        proxies=["proxy1"],
        behind={"near": ("issuing",)},
        dials=[("ca1", "proxy1"), ("near", "proxy1")],
    ) as found:
        yield found


@pytest.fixture(scope="module")
def fallen(chain: Chain) -> Iterator[Tenant]:
    """Return the tenant whose CA has fallen; another one, beta, is known too."""
    acme = Tenant(chain, "acme", proxy="proxy1", ca="ca1", authorities=("issuing",)).start()
    beta = Tenant(chain, "beta", proxy="proxy1", ca="ca1", authorities=("issuing",)).start()
    try:
        acme.admit()
        beta.admit()
        yield acme
    finally:
        acme.stop()
        beta.stop()


def made_by(tenant: Tenant, chain: Chain, pose: str) -> IdentityHolder:
    """Return an identity that the tenant's CA signed, at a node that trusts the operator's."""
    identity = pose if "/" in pose else chain[pose].identity
    own = certified_holder(tenant.ra, identity).current
    theirs = x509.load_pem_x509_certificate(chain.trust_anchors.encode())
    domain = chain["proxy1"].trust_domain
    is_theirs = own.node.trust_domain == domain
    return IdentityHolder(
        TlsIdentity(
            private_key=own.private_key,
            chain=own.chain,
            trust_anchors=[*own.trust_anchors, theirs] if is_theirs else own.trust_anchors,
            peer_issuers=() if is_theirs else [PeerIssuer(domain, (theirs,))],
        )
    )


@pytest.mark.parametrize("pose", POSES)
def test_a_name_that_is_not_its_own_gets_no_link(chain: Chain, fallen: Tenant, pose: str) -> None:
    proxy, holder = chain["proxy1"], made_by(fallen, chain, pose)
    reason = f"doesn't vouch for nodes of {holder.node.trust_domain}"
    before = proxy.log_path.read_text().count(reason)
    with HostileNode(holder) as node:
        with pytest.raises(NetworkError) as caught:
            node.dial(proxy.listen["peer"], proxy.identity)
        # Nothing tells a tenant that is here from one that isn't, but the name that it sent.
        assert "beta" not in str(caught.value).replace("of beta.example", "")
    # The reason may be lost on its way when the connection is cut; the log has it.
    wait_until(
        lambda: proxy.log_path.read_text().count(reason) > before,
        timeout_seconds=10,
        what="the proxy refuses it for its name",
    )


@pytest.mark.parametrize("pose", POSES)
def test_a_name_that_is_not_its_own_is_no_origin(chain: Chain, fallen: Tenant, pose: str) -> None:
    proxy = chain["proxy1"]
    after = chain.audited("proxy1")[-1]["sequence"]
    forged, request_id = made_by(fallen, chain, pose), secrets.token_bytes(16)
    own = sign_request(
        forged,
        method=SEARCH.method,
        request_id=request_id,
        audience="ca/issuing",
        requester="",
        payload=ENCODER.encode(SearchRequest(authority="issuing")),
    )
    with HostileNode(made_by(fallen, chain, "spiffe://acme.example/node/ra1")) as node:
        node.dial(proxy.listen["peer"], proxy.identity)
        answer = node.send(SEARCH.method, own.message, request_id=request_id, to=proxy.identity)
    assert answer.status == Status.DENIED
    denials = chain.denials("proxy1", after=after)
    assert any("doesn't vouch for nodes of" in entry["reason"] for entry in denials)


def test_a_node_of_its_own_without_a_role_gets_no_link(chain: Chain, fallen: Tenant) -> None:
    proxy = chain["proxy1"]
    with HostileNode(made_by(fallen, chain, "spiffe://acme.example/node/other")) as node:
        link = node.dial(proxy.listen["peer"], proxy.identity)
        node.run(link.wait_closed())
        assert "no role" in link.close_reason
