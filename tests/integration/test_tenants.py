"""Tenants with Management CAs of their own behind one proxy, before one CA."""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import AdminError
from tests.support.chains import Chain
from tests.support.openssl import make_csr
from tests.support.processes import wait_until
from tests.support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The operator's CA and proxy, and an RA of the operator's own behind it."""
    with Chain(
        tmp_path_factory.mktemp("operator"),
        cas={"ca1": ("issuing",)},
        proxies=["proxy1"],
        behind={"near": ("issuing",)},
        dials=[("ca1", "proxy1"), ("near", "proxy1")],
    ) as found:
        yield found


@pytest.fixture(scope="module")
def acme(chain: Chain) -> Iterator[Tenant]:
    """Return a tenant that is admitted while the others are at work."""
    tenant = Tenant(chain, "acme", proxy="proxy1", ca="ca1", authorities=("issuing",)).start()
    try:
        links = connections(chain)
        tenant.admit()
        assert links.items() <= connections(chain).items()
        yield tenant
    finally:
        tenant.stop()


def connections(chain: Chain) -> dict[str, int]:
    """Return the proxy's links by peer."""
    return {
        peer["peer"]: peer["connections"]
        for peer in chain["proxy1"].admin.get("/v1/peers")
        if peer["state"] == "up"
    }


def test_a_tenant_enrols_under_its_own_issuer(chain: Chain, acme: Tenant, tmp_path: Path) -> None:
    status, answer = acme.rest().enroll(make_csr(tmp_path))
    assert status == 201, answer
    entry = [e for e in chain.audited("ca1") if e["action"] == "ra.enroll"][-1]
    assert entry["detail"]["origin"] == "spiffe://acme.example/node/ra1"
    # Its name alone might be one of the operator's nodes.
    assert entry["chain"] == "tester via spiffe://acme.example/node/ra1 via proxy1"
    assert chain.rest("near").enroll(make_csr(tmp_path, "near.example.org"))[0] == 201


def test_the_handshake_names_no_tenant(chain: Chain, acme: Tenant) -> None:
    """A server may list the CAs that it takes (RFC 8446, 4.2.4): here, a list of tenants."""
    address = chain["proxy1"].listen["peer"]
    said = subprocess.run(
        ["openssl", "s_client", "-connect", address, "-alpn", "peersys/1"],
        capture_output=True,
        input=b"",
        check=False,
        timeout=20,
    ).stdout.decode(errors="replace")
    assert "No client certificate CA names sent" in said
    assert "acme" not in said


@pytest.mark.parametrize("node", ["proxy1", "ca1"])
def test_a_second_tenant_with_the_same_trust_anchor_is_refused(
    chain: Chain, acme: Tenant, node: str
) -> None:
    before = chain[node].admin.get("/v1/node")["objects"]["peer_issuers"]
    twin = {**acme.issuer(), "name": "twin", "trust_domain": "twin.example"}
    for dry_run in (True, False):
        with pytest.raises(AdminError) as caught:
            chain[node].admin.put("/v1/objects/peer_issuers/twin", twin, dry_run=dry_run)
        problem = caught.value.problem
        assert (caught.value.status, problem["field"]) == (422, "peer_issuers.twin.trust_anchors")
        assert "has the certificate of peer_issuers.acme" in problem["detail"]
        assert "Management CA of its own" in problem["remedy"]
    assert chain[node].admin.get("/v1/node")["objects"]["peer_issuers"] == before


def test_a_quota_is_told_to_the_requester_and_holds_over_the_proxy(
    chain: Chain, acme: Tenant, tmp_path: Path
) -> None:
    issued = acme.rest().enroll(make_csr(tmp_path, "quota.example.org"))[1]
    role = chain["ca1"].admin.get("/v1/objects/peer_roles/acme")["spec"]
    chain["ca1"].admin.put("/v1/objects/peer_roles/acme", {**role, "max_valid_certificates": 2})
    try:
        status, answer = acme.rest().enroll(make_csr(tmp_path, "last.example.org"))
        if status == 201:
            status, answer = acme.rest().enroll(make_csr(tmp_path, "beyond.example.org"))
        assert (status, answer["type"]) == (429, "urn:peersys:problem:quota-exceeded")
        assert answer["detail"].startswith("2 certificates of yours are valid")
        assert answer["remedy"]
        assert chain.rest("near").enroll(make_csr(tmp_path, "other.example.org"))[0] == 201
        assert acme.rest().revoke(issued["serial"])[0] == 200
    finally:
        chain["ca1"].admin.put("/v1/objects/peer_roles/acme", role)


def test_neighbours_at_one_ca_see_nothing_of_each_other(
    chain: Chain, acme: Tenant, tmp_path: Path
) -> None:
    theirs = chain.rest("near").enroll(make_csr(tmp_path, "near2.example.org"))[1]["serial"]
    rest = acme.rest()
    said = [
        (rest.request("GET", f"/v1/certificates/issuing/{serial}"), rest.revoke(serial))
        for serial in (theirs, "12345")
    ]
    assert repr(said[0]).replace(theirs, "N") == repr(said[1]).replace("12345", "N")
    assert said[0][0][0] == said[0][1][0] == 404
    page = rest.request("GET", "/v1/certificates?authority=issuing&name=near2.example.org")[1]
    assert page["certificates"] == []
    assert chain.rest("near").request("GET", f"/v1/certificates/issuing/{theirs}")[0] == 200


def test_a_proxy_without_any_upstream_says_so_and_the_ca_hears_nothing(
    chain: Chain, acme: Tenant, tmp_path: Path
) -> None:
    proxy, path = chain["proxy1"], "/v1/objects/peer_roles/ca1"
    role, heard = proxy.admin.get(path)["spec"], chain.audited("ca1")[-1]["sequence"]
    csr, request_id = make_csr(tmp_path, "upstream.example.org"), uuid.uuid4()
    proxy.admin.put(path, {**role, "members": []})
    try:
        status, problem = acme.rest().enroll(csr, request_id=request_id)
        assert (status, problem["type"]) == (503, "urn:peersys:problem:unavailable")
        assert "same request id" in problem["remedy"]
        assert chain.audited("ca1")[-1]["sequence"] == heard
    finally:
        proxy.admin.put(path, role)
    wait_until(
        lambda: acme.rest().enroll(csr, request_id=request_id)[0] == 201,
        timeout_seconds=30,
        what="the same request is carried out once there is a way again",
    )


@pytest.mark.parametrize("node", ["proxy1", "ca1"])
def test_a_role_that_names_an_unknown_ca_is_refused(chain: Chain, acme: Tenant, node: str) -> None:
    role = chain[node].admin.get("/v1/objects/peer_roles/acme")["spec"]
    wrong = {**role, "rules": [*role["rules"], {"resource": "/ca/isuing"}]}
    with pytest.raises(AdminError) as caught:
        chain[node].admin.put("/v1/objects/peer_roles/acme", wrong)
    problem, number = caught.value.problem, len(role["rules"])
    assert problem["field"] == f"peer_roles.acme.rules[{number}]"
    assert "names the CA 'isuing', which is unknown" in problem["detail"]
    assert problem["remedy"]
    assert chain[node].admin.get("/v1/objects/peer_roles/acme")["spec"] == role


def test_a_node_that_the_tenant_revokes_is_cut_off_and_the_others_are_not(
    chain: Chain, tmp_path: Path
) -> None:
    beta = Tenant(chain, "beta", proxy="proxy1", ca="ca1", authorities=("issuing",)).start()
    try:
        beta.admit()
        assert beta.rest().enroll(make_csr(tmp_path, "beta.example.org"))[0] == 201
        authenticator = beta.ra.admin.state("authenticators", "peer")["certificate"]
        beta.ra.admin.post(
            f"/v1/certificates/management/{authenticator['serial']}/revocation",
            {"reason": "keyCompromise"},
        )
        wait_until(
            lambda: (
                beta.ra.admin.state("certification_authorities", "management")["crl_number"] > 1
            ),
            timeout_seconds=20,
            what="the tenant's next CRL is made",
        )
        chain["proxy1"].admin.apply(peer_issuers=[beta.issuer()])
        wait_until(
            lambda: beta.ra.identity not in connections(chain),
            timeout_seconds=5,
            what="the revoked node's links are closed",
        )
        assert chain["near"].identity in connections(chain)
        assert chain.rest("near").enroll(make_csr(tmp_path, "still.example.org"))[0] == 201
    finally:
        beta.stop()
