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
from node_agent.wire.frames import Answer, Cancel, Credits, Data, Hello, Open, Ping, Window
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


def _flood_of(frame: Any) -> Callable[[RawPeer], None]:
    return lambda peer: peer.send(*([frame] * 25_000))


def _open_and_make_room(peer: RawPeer) -> None:
    peer.send(make(Open, payload=b"", message_bytes=500, end=False), make(Window, stream=1))


def _overrun_credits(peer: RawPeer) -> None:
    for number in range(200):
        peer.send(make(Open, stream=2 * number + 1, payload=b"", message_bytes=5, end=False))


def _overrun_window(peer: RawPeer) -> None:
    peer.send(make(Open, payload=b"", message_bytes=4_000_000, end=False))
    for _ in range(100):
        peer.send(make(Data, payload=bytes(60_000)))


def _open_and_cancel(peer: RawPeer) -> None:
    for number in range(12_000):
        stream = 2 * number + 1
        peer.send(
            make(Open, stream=stream, payload=b"", message_bytes=5, end=False),
            make(Cancel, stream=stream),
        )


WIRE_ATTACKS: dict[str, tuple[Callable[[RawPeer], None], Code]] = {
    "a giant length": (lambda peer: peer.send_bytes(b"\xff" * 4), Code.FRAME_TOO_LARGE),
    "no length at all": (lambda peer: peer.send_bytes(bytes(4)), Code.PROTOCOL),
    "bytes that are no frame": (lambda peer: peer.send_bytes(b"\0\0\0\5hello"), Code.PROTOCOL),
    "a giant message": (
        lambda peer: peer.send(make(Open, payload=b"", message_bytes=2**31 - 1, end=False)),
        Code.FRAME_TOO_LARGE,
    ),
    "more than the window": (_overrun_window, Code.FLOW_CONTROL),
    "more than the credits": (_overrun_credits, Code.CREDITS_EXCEEDED),
    "an answer to nothing": (lambda peer: peer.send(make(Answer, stream=2)), Code.PROTOCOL),
    "data on no stream": (lambda peer: peer.send(make(Data, stream=9)), Code.PROTOCOL),
    "another Hello": (lambda peer: peer.send(make(Hello)), Code.PROTOCOL),
    "a flood of pings": (_flood_of(make(Ping)), Code.TOO_MUCH),
    "a flood of credits": (_flood_of(make(Credits)), Code.TOO_MUCH),
    "room for an answer that isn't due": (_open_and_make_room, Code.PROTOCOL),
    "opening and cancelling": (_open_and_cancel, Code.TOO_MUCH),
}


@pytest.mark.parametrize("attack", WIRE_ATTACKS)
def test_what_breaks_the_protocol_ends_the_link_and_is_logged(
    tenants: Chain, alpha: HostileNode, attack: str
) -> None:
    """The same breach by the same peer is written once a minute, so older entries count."""
    commit, code = WIRE_ATTACKS[attack]
    with RawPeer(alpha.holder, tenants["inner"].listen["peer"]) as peer:
        commit(peer)
        ended = peer.end()
    assert ended is None or ended.code == code

    def logged() -> list[dict[str, Any]]:
        entries = [e for e in tenants.denials("inner") if e["action"] == "peer.link"]
        return [e for e in entries if e["reason"].startswith(code.name.lower())]

    wait_until(logged, timeout_seconds=5, what="the breach is in the audit log")
    assert {entry["chain"] for entry in logged()} == {"alpha"}


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
