"""A taken-over RA proxy with its valid key, between real tenants and a real CA. It sees all that is
asked and answered, may drop it, and can't forge, alter, redirect or use any of it.
"""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from node_agent.net import RawAnswer
from node_agent.peers.envelope import (
    SignedRequest,
    Via,
    body_digest_of,
    sign_answer,
    sign_request,
)
from node_agent.peers.operations import (
    CATALOGUE,
    CatalogueRequest,
    EnrollRequest,
    RevokeAnswer,
    serial_octets,
)
from node_agent.wire import Status
from tests.support.hostile_node import HostileNode, certified_holder
from tests.support.hostile_requests import csr_for
from tests.support.openssl import make_csr
from tests.support.processes import wait_until
from tests.support.scope_table import METHODS, TENANT, Scope
from tests.support.scope_trial import Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from node_agent.net import IdentityHolder, IncomingCall
    from tests.support.chains import Chain

pytestmark = pytest.mark.timeout(120)

ENCODE = msgspec.msgpack.encode


@pytest.fixture(scope="module")
def alphas_key(tenants: Chain) -> IdentityHolder:
    """A key of the tenant alpha's: what a proxy gets when it falls together with a tenant."""
    return certified_holder(tenants["ca1"], tenants["alpha"].identity)


@pytest.fixture
def alphas(tenants: Chain, proxy: HostileNode, tmp_path: Path) -> bytes:
    """The serial number of a certificate that alpha enrolled."""
    return serial_octets(int(enrol(tenants, tmp_path)[1]["serial"], 16))


@pytest.fixture(scope="module")
def module_proxy(tenants: Chain, alphas_key: IdentityHolder) -> Iterator[HostileNode]:
    holder = certified_holder(tenants["ca1"], tenants["inner"].identity)
    tenants["inner"].stop()
    others = [tenants[name].identity for name in ("ca1", "alpha", "beta")]
    with HostileNode(holder, listen=tenants["inner"].listen["peer"]) as node:
        node.believe(tenants["ca1"].identity)
        wait_until(
            lambda: all(map(node.is_linked, others)),
            timeout_seconds=30,
            what="CA and tenants dialled the hostile proxy",
        )
        yield node


@pytest.fixture
def proxy(tenants: Chain, module_proxy: HostileNode) -> Iterator[HostileNode]:
    """It passes on honestly, until a test says otherwise."""
    honest = Passing(module_proxy, tenants["ca1"].identity)
    module_proxy.handler = honest
    yield module_proxy
    module_proxy.handler = honest


class Passing:
    """A proxy's handler: what comes from a tenant goes to the CA as ``change`` makes it."""

    def __init__(
        self, node: HostileNode, ca: str, change: Callable[[SignedRequest], SignedRequest] = id
    ) -> None:
        self._node = node
        self._ca = ca
        self._change = change
        self.kept: list[tuple[str, bytes, bytes]] = []
        self.changes: dict[str, Any] = {}

    async def __call__(self, call: IncomingCall) -> RawAnswer:
        if call.method not in ("ra.enroll", "ra.revoke", "ra.status", "ra.search"):
            return RawAnswer(Status.UNAVAILABLE)
        self.kept.append((call.method, call.payload, call.request_id))
        signed = msgspec.msgpack.decode(call.payload, type=SignedRequest)
        changed = signed if self._change is id else self._change(signed)
        fields = {"method": call.method, "request_id": call.request_id, **self.changes}
        return await self._node.forward(
            fields["method"], ENCODE(changed), request_id=fields["request_id"], to=self._ca
        )


def enrol(tenants: Chain, directory: Path, tenant: str = "alpha") -> tuple[int, Any]:
    ca, profile = {"alpha": ("issuing", "server"), "beta": ("other", "private")}[tenant]
    csr = make_csr(directory, f"{uuid.uuid4().hex}.example.org")
    status, answer = tenants.rest(tenant).enroll(csr, authority=ca, profile=profile)
    return status, answer


def test_what_it_passes_on_as_it_is_is_served(
    tenants: Chain, proxy: HostileNode, tmp_path: Path
) -> None:
    """Without this, links that deny everything would pass every test below."""
    assert enrol(tenants, tmp_path)[0] == 201
    assert enrol(tenants, tmp_path, "beta")[0] == 201


@pytest.mark.parametrize("method", METHODS)
def test_its_own_signature_is_worth_nothing(
    tenants: Chain, proxy: HostileNode, method: str
) -> None:
    trial = Trial(proxy, tenants["ca1"], Scope(), "alpha via inner", requester="alpha")
    trial.check(method)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_fallen_tenant_it_gets_what_that_tenant_is_granted_and_no_more(
    tenants: Chain, proxy: HostileNode, alphas_key: IdentityHolder, alphas: bytes, method: str
) -> None:
    """Signed by alpha, brought by the proxy, and no honest node looked at it before the CA."""
    trial = Trial(proxy, tenants["ca1"], TENANT, "mallory via alpha via inner", holder=alphas_key)
    trial.check(method, serial=alphas)


def _of_its_own(proxy: HostileNode, signed: SignedRequest) -> SignedRequest:
    return msgspec.structs.replace(signed, chain=proxy.holder.current.chain_der)


def _altered(proxy: HostileNode, signed: SignedRequest) -> SignedRequest:
    return msgspec.structs.replace(signed, body=signed.body.replace(b"tester", b"teste1"))


def _too_deep(proxy: HostileNode, signed: SignedRequest) -> SignedRequest:
    via = Via(proxy.holder.node.uri, "CN=x", "1", "a" * 64, "b" * 64)
    return msgspec.structs.replace(signed, via=(via,) * 11)


def _by_way_of_another_tenant(proxy: HostileNode, signed: SignedRequest) -> SignedRequest:
    other = proxy.holder.node.uri.replace("inner", "beta")
    return msgspec.structs.replace(signed, via=(Via(other, "CN=x", "1", "a" * 64, "b" * 64),))


def _by_way_of_nobody(proxy: HostileNode, signed: SignedRequest) -> SignedRequest:
    nobody = Via("spiffe://elsewhere.example/node/x", "CN=x", "1", "a" * 64, "b" * 64)
    return msgspec.structs.replace(signed, via=(nobody,))


ALTERATIONS: dict[str, tuple[Callable[..., SignedRequest] | None, dict[str, Any]]] = {
    "altered": (_altered, {}),
    "as its own": (_of_its_own, {}),
    "too deep a chain": (_too_deep, {}),
    "another tenant in the chain": (_by_way_of_another_tenant, {}),
    "a stranger in the chain": (_by_way_of_nobody, {}),
    "as another operation": (None, {"method": "ra.revoke"}),
    "as an operation that doesn't exist": (None, {"method": "node.apply"}),
    "under another request id": (None, {"request_id": b"z" * 16}),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_what_it_changes_is_denied_and_logged(
    tenants: Chain,
    proxy: HostileNode,
    since_now: Callable[..., Any],
    tmp_path: Path,
    what: str,
) -> None:
    change, fields = ALTERATIONS[what]
    log = since_now(tenants["ca1"])
    passing = Passing(
        proxy,
        tenants["ca1"].identity,
        id if change is None else lambda signed: change(proxy, signed),
    )
    passing.changes = fields
    proxy.handler = passing
    status, problem = enrol(tenants, tmp_path)
    assert status in (403, 502), problem
    assert len(log.denials()) >= 1
    assert all(entry["chain"].endswith("inner") for entry in log.denials())


def test_a_replay_issues_nothing_and_is_logged(
    tenants: Chain, proxy: HostileNode, since_now: Callable[..., Any], tmp_path: Path
) -> None:
    ca = tenants["ca1"].identity
    passing = proxy.handler = Passing(proxy, ca)
    status, issued = enrol(tenants, tmp_path)
    assert status == 201
    log, (method, payload, request_id) = since_now(tenants["ca1"]), passing.kept[-1]
    before = tenants["ca1"].admin.get("/v1/certificates?authority=issuing&limit=1000")
    for _ in range(3):
        proxy.send(method, payload, request_id=request_id, to=ca)
    assert tenants["ca1"].admin.get("/v1/certificates?authority=issuing&limit=1000") == before
    assert [e["detail"]["outcome"] for e in log.entries()] == ["repeated"] * 3
    assert log.entries()[0]["detail"]["serial"] == issued["serial"]


def test_a_kept_order_to_hold_does_not_undo_its_release_even_after_a_restart(
    tenants: Chain, proxy: HostileNode, since_now: Callable[..., Any], tmp_path: Path
) -> None:
    ca = tenants["ca1"]
    passing = proxy.handler = Passing(proxy, ca.identity)
    serial = enrol(tenants, tmp_path)[1]["serial"]
    rest = tenants.rest("alpha")
    assert rest.revoke(serial, reason="certificateHold")[1]["status"] == "on_hold"
    method, payload, request_id = passing.kept[-1]
    assert rest.revoke(serial, reason="removeFromCRL")[1]["status"] == "good"

    def replay() -> None:
        log = since_now(ca)
        proxy.send(method, payload, request_id=request_id, to=ca.identity)
        assert ca.admin.get(f"/v1/certificates/issuing/{serial}")["status"] == "good"
        assert len(log.entries()) == 1

    replay()
    ca.stop()
    ca.start()
    wait_until(lambda: proxy.is_linked(ca.identity), timeout_seconds=30, what="the CA dials again")
    replay()


def _itself(proxy: HostileNode, call: IncomingCall, kept: list[bytes]) -> RawAnswer:
    payload = ENCODE(RevokeAnswer("revoked", 1, 1, 1, True))
    answer = sign_answer(
        proxy.holder, body_digest=body_digest_of(call.payload), status=Status.OK, payload=payload
    )
    return RawAnswer(Status.OK, answer)


def _unsigned(proxy: HostileNode, call: IncomingCall, kept: list[bytes]) -> RawAnswer:
    return RawAnswer(Status.OK, b"")


def _of_another_request(proxy: HostileNode, call: IncomingCall, kept: list[bytes]) -> RawAnswer:
    return RawAnswer(Status.OK, kept[0])


def _another_status(proxy: HostileNode, call: IncomingCall, kept: list[bytes]) -> RawAnswer:
    return RawAnswer(Status.NOT_FOUND, kept[-1])


@pytest.mark.parametrize("forge", [_itself, _unsigned, _of_another_request, _another_status])
def test_an_answer_that_is_not_the_cas_is_not_believed(
    tenants: Chain, proxy: HostileNode, tmp_path: Path, forge: Callable[..., RawAnswer]
) -> None:
    passing, kept = Passing(proxy, tenants["ca1"].identity), list[bytes]()

    async def answer(call: IncomingCall) -> RawAnswer:
        kept.append((await passing(call)).payload)
        return forge(proxy, call, kept)

    first = enrol(tenants, tmp_path)
    proxy.handler = _keeping(passing, kept)
    assert enrol(tenants, tmp_path)[0] == first[0] == 201
    proxy.handler = answer
    status, problem = enrol(tenants, tmp_path)
    assert status == 502, problem


def _keeping(passing: Passing, kept: list[bytes]) -> Callable[[IncomingCall], Awaitable[RawAnswer]]:
    async def pass_on(call: IncomingCall) -> RawAnswer:
        answer = await passing(call)
        kept.append(answer.payload)
        return answer

    return pass_on


@pytest.mark.parametrize("tenant", ["alpha", "beta"])
@pytest.mark.parametrize("method", METHODS)
def test_it_has_nothing_to_tell_or_ask_a_tenant(
    tenants: Chain, proxy: HostileNode, tenant: str, method: str
) -> None:
    trial = Trial(proxy, tenants[tenant], Scope(), "tester via inner", requester="tester")
    trial.check(method)


@pytest.mark.parametrize("tenant", ["alpha", "beta"])
@pytest.mark.parametrize("method", ["node.apply", "objects.put", "token.export"])
def test_there_is_no_operation_that_manages_a_tenant(
    tenants: Chain, proxy: HostileNode, since_now: Callable[..., Any], tenant: str, method: str
) -> None:
    agent = tenants[tenant]
    log, request_id = since_now(agent), secrets.token_bytes(16)
    message = sign_request(
        proxy.holder,
        method=method,
        request_id=request_id,
        audience=agent.identity,
        requester="",
        payload=b"\x80",
    ).message
    answer = proxy.send(method, message, request_id=request_id, to=agent.identity)
    assert answer.status == Status.DENIED
    assert [entry["detail"]["method"] for entry in log.denials()] == [method]


def test_the_ca_shows_it_no_more_than_its_tenants_have_together(
    tenants: Chain, proxy: HostileNode
) -> None:
    answer = proxy.ask(CATALOGUE, CatalogueRequest(), of=tenants["ca1"].identity)
    assert [offer.name for offer in answer.authorities] == ["issuing", "other"]


def test_a_request_that_expired_on_the_way_is_denied_and_changes_nothing(
    tenants: Chain,
    proxy: HostileNode,
    alphas_key: IdentityHolder,
    since_now: Callable[..., Any],
) -> None:
    """As old as a proxy that held it back for ten minutes would deliver it."""
    log, ca = since_now(tenants["ca1"]), tenants["ca1"].identity
    before = tenants["ca1"].admin.get("/v1/certificates?authority=issuing&limit=1000")
    request_id = secrets.token_bytes(16)
    request = EnrollRequest(authority="issuing", profile="server", csr=csr_for("late.example.org"))
    message = sign_request(
        _Late(alphas_key),  # type: ignore[arg-type]
        method="ra.enroll",
        request_id=request_id,
        audience="ca/issuing",
        requester="tester",
        payload=ENCODE(request),
        lifetime_seconds=25,
    ).message
    answer = proxy.send("ra.enroll", message, request_id=request_id, to=ca)
    assert answer.status == Status.DENIED
    (entry,) = log.denials()
    assert "expired" in entry["reason"]
    assert tenants["ca1"].admin.get("/v1/certificates?authority=issuing&limit=1000") == before


class _Late:
    """A holder whose clock is ten minutes behind."""

    def __init__(self, holder: IdentityHolder) -> None:
        self.current = holder.current
        self.clock = self
        self._now = holder.clock.now() - 600

    def now(self) -> float:
        return self._now


def test_a_request_that_is_held_back_is_a_clear_problem_at_the_ra(
    tenants: Chain, proxy: HostileNode, tmp_path: Path
) -> None:
    """The proxy says in its own name that the time is over."""

    async def late(call: IncomingCall) -> RawAnswer:
        return RawAnswer(Status.DEADLINE)

    proxy.handler = late
    status, problem = enrol(tenants, tmp_path)
    assert (status, problem["type"]) == (504, "urn:peersys:problem:deadline-exceeded")
    assert problem["remedy"]


def test_every_log_is_whole_after_all_of_it(tenants: Chain, proxy: HostileNode) -> None:
    for name in ("ca1", "alpha", "beta"):
        assert tenants[name].admin.post("/v1/audit/verify", {})["ok"]
