"""A taken-over tenant RA with its valid key, before a proxy that other tenants share."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import (
    CATALOGUE,
    ENROLL,
    OPERATIONS,
    REVOKE,
    SEARCH,
    STATUS,
    CatalogueRequest,
    EnrollRequest,
    RevokeRequest,
    SearchRequest,
    StatusRequest,
    serial_octets,
)
from node_agent.wire import Status
from node_agent.wire.codes import Code
from node_agent.wire.frames import Open
from tests.support.frames import make
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.hostile_requests import CSR
from tests.support.openssl import make_csr
from tests.support.processes import wait_until
from tests.support.raw_peer import RawPeer
from tests.support.scope_table import METHODS, TENANT, tries
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.chains import Chain

pytestmark = pytest.mark.timeout(120)

ASKS = "mallory via alpha"
FOR_ANY_NODE = sorted(
    {CATALOGUE.method, *(name for name in METHODS if name.startswith("publish."))}
)


@pytest.fixture(scope="module")
def alpha(tenants: Chain) -> Iterator[HostileNode]:
    """Alpha's RA, taken over: it dials the proxy as the real one did."""
    tenants["alpha"].stop()
    holder = certified_holder(tenants["ca1"], tenants["alpha"].identity)
    with HostileNode(holder) as node:
        node.believe(tenants["ca1"].identity)
        node.believe_relay(tenants["inner"].identity)
        node.dial(tenants["inner"].listen["peer"], tenants["inner"].identity)
        yield node


@pytest.fixture(scope="module")
def betas(tenants: Chain, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The serial number of a certificate of the other tenant."""
    csr = make_csr(tmp_path_factory.mktemp("beta"), "secret.beta.example.org")
    status, answer = tenants.rest("beta").enroll(csr, authority="other", profile="private")
    assert status == 201, answer
    return serial_octets(int(answer["serial"], 16))


@pytest.fixture(scope="module")
def own(tenants: Chain, alpha: HostileNode) -> bytes:
    """The serial number of a certificate of its own."""
    request = EnrollRequest(authority="issuing", profile="server", csr=CSR)
    alpha.ask(ENROLL, request, of=tenants["ca1"].identity, requester="mallory")
    answer = alpha.ask(SEARCH, SearchRequest(authority="issuing"), of=tenants["ca1"].identity)
    serial: bytes = answer.certificates[0].serial
    return serial


def test_every_operation_is_tried() -> None:
    for method, operation in OPERATIONS.items():
        cases = list(tries(method))
        assert cases, method
        assert {type(case.request()) for case in cases} == {operation.request_type}


@pytest.mark.parametrize("method", METHODS)
def test_a_tenant_can_do_what_it_is_granted_and_nothing_else(
    tenants: Chain, alpha: HostileNode, own: bytes, betas: bytes, method: str
) -> None:
    """Whatever it asks of the CA, the proxy decides. What another tenant has is asked about at the
    other's CA, and its own at every other name.
    """
    trial = Trial(alpha, tenants["inner"], TENANT, ASKS, of=tenants["ca1"].identity)
    trial.check(method, lambda case: case.authority != "other", serial=own)
    if method != CATALOGUE.method:
        trial.check(method, lambda case: case.authority == "other", serial=betas)


@pytest.mark.parametrize("method", FOR_ANY_NODE)
def test_a_tenant_gets_and_tells_the_proxy_itself_nothing(
    tenants: Chain, alpha: HostileNode, method: str
) -> None:
    Trial(alpha, tenants["inner"], TENANT, ASKS).check(method)


@pytest.mark.parametrize("verb", ["status", "revoke", "search"])
def test_another_tenants_certificate_is_as_absent_as_one_that_never_was(
    tenants: Chain, alpha: HostileNode, betas: bytes, verb: str
) -> None:
    """Asked of the own CA: the serial number exists, but below another CA."""
    ca = tenants["ca1"].identity
    absent = secrets.token_bytes(16)
    said = []
    for serial in (betas, absent):
        requests: dict[str, Any] = {
            "status": (STATUS, StatusRequest(authority="issuing", serial=serial)),
            "revoke": (REVOKE, RevokeRequest(authority="issuing", serial=serial)),
            "search": (SEARCH, SearchRequest(authority="issuing", name="secret.beta")),
        }
        operation, request = requests[verb]
        try:
            said.append(repr(alpha.ask(operation, request, of=ca)))
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}".replace(serial.hex().lstrip("0"), "N"))
    assert said[0] == said[1]


def test_the_catalogue_shows_its_own_ca_only(tenants: Chain, alpha: HostileNode) -> None:
    answer = alpha.ask(CATALOGUE, CatalogueRequest(), of=tenants["ca1"].identity)
    assert [(offer.name, offer.profiles) for offer in answer.authorities] == [
        ("issuing", ("server",))
    ]


def test_a_forged_origin_is_denied_and_logged(
    tenants: Chain, alpha: HostileNode, since_now: Callable[..., Any]
) -> None:
    """It signs with its own key and says that it is the other tenant, in every place there is."""
    log = since_now(tenants["inner"])
    for method in ("ra.enroll", "ra.search", "node.apply", "admin.put_object", "__class__"):
        request_id = secrets.token_bytes(16)
        message = sign_request(
            alpha.holder,
            method=method,
            request_id=request_id,
            audience="ca/other",
            requester="beta",
            payload=b"\x80",
        ).message
        answer = alpha.send(method, message, request_id=request_id, to=tenants["inner"].identity)
        assert answer.status == Status.DENIED
    assert [entry["chain"] for entry in log.denials()] == ["beta via alpha"] * 5


def test_an_honest_tenant_is_served_all_the_while(tenants: Chain, tmp_path: Path) -> None:
    csr = make_csr(tmp_path)
    status, answer = tenants.rest("beta").enroll(csr, authority="other", profile="private")
    assert status == 201, answer


def test_a_role_taken_away_in_mid_stream_ends_the_link_within_a_second(
    tenants: Chain, alpha: HostileNode, since_now: Callable[..., Any]
) -> None:
    inner = tenants["inner"]
    log, path = since_now(inner), "/v1/objects/peer_roles/alpha"
    role = inner.admin.get(path)["spec"]
    with RawPeer(alpha.holder, inner.listen["peer"], timeout_seconds=5) as peer:
        peer.send(make(Open, payload=b"", message_bytes=500, end=False))
        wait_until(
            lambda: len([p for p in inner.admin.get("/v1/peers") if p["peer"].endswith("/alpha")]),
            what="the link is up",
        )
        inner.admin.delete(path)
        wait_until(
            lambda: not alpha.is_linked(inner.identity), timeout_seconds=1, what="links are closed"
        )
        ended = peer.end()
        assert ended is not None
        assert ended.code == Code.UNTRUSTED
    wait_until(
        lambda: [e for e in log.denials() if "role" in e["reason"]], what="it is in the audit log"
    )
    with RawPeer(alpha.holder, inner.listen["peer"]) as peer:
        assert peer.end().code == Code.UNTRUSTED  # type: ignore[union-attr]
    inner.admin.put(path, role)
    alpha.dial(inner.listen["peer"], inner.identity)


def test_a_revoked_authenticator_in_mid_stream_ends_it_within_a_second(
    tenants: Chain, alpha: HostileNode
) -> None:
    """The last of this file: nothing above works afterwards."""
    inner = tenants["inner"]
    with RawPeer(alpha.holder, inner.listen["peer"], timeout_seconds=5) as peer:
        peer.send(make(Open, payload=b"", message_bytes=500, end=False))
        tenants["ca1"].admin.post(
            f"/v1/certificates/management/{alpha.serial}/revocation", {"reason": "keyCompromise"}
        )
        wait_until(
            lambda: not alpha.is_linked(inner.identity), timeout_seconds=1, what="links are closed"
        )
        ended = peer.end()
        assert ended is not None
        assert ended.code == Code.UNTRUSTED
    for name in ("ca1", "inner"):
        assert tenants[name].admin.post("/v1/audit/verify", {})["ok"]
