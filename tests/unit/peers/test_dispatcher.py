"""What never reaches a handler, sent by a peer that makes its own frames and envelopes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from node_agent.errors import NodeAgentError
from node_agent.peers.answers import decode_problem
from node_agent.peers.envelope import read_answer, sign_request
from node_agent.peers.operations import (
    ENROLL,
    OPERATIONS,
    STATUS,
    CertificateAnswer,
    EnrollRequest,
    StatusRequest,
)
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, PeerNode, until
from tests.unit.peers.test_calls_over_links import ENROLMENT, RA_GRANTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.net import Link, RawAnswer
    from node_agent.peers.context import Context
    from node_agent.store.records import AuditRecord

ID = b"d" * 16


class Intruder:
    """An RA with a valid key that talks to the CA's dispatcher directly."""

    def __init__(self, ca: PeerNode, ra: PeerNode, link: Link) -> None:
        self.ca = ca
        self.ra = ra
        self.link = link
        self.reached: list[str] = []

    async def send(
        self,
        method: str = "ra.enroll",
        *,
        payload: bytes | None = None,
        audience: str = "ca/issuing",
        message: bytes | None = None,
    ) -> tuple[Status, str]:
        """Return status and problem code of the CA's answer to a well-signed request."""
        own = sign_request(
            self.ra.holder,
            method=method,
            request_id=ID,
            audience=audience,
            requester="alice",
            payload=msgspec.msgpack.encode(ENROLMENT) if payload is None else payload,
            lifetime_seconds=30,
        )
        raw: RawAnswer = await self.link.call(
            method, message or own.message, request_id=ID, timeout_seconds=5
        )
        digest = own.body_digest if message is None else bytes(32)
        answer = read_answer(
            raw.payload,
            certificates=self.ra.certificates,
            body_digest=digest,
            status=raw.status,
        )
        assert answer.signer.node == self.ca.node
        code = "" if raw.status == Status.OK else decode_problem(answer.payload).code
        return Status(raw.status), code


def scene(play: Callable[[Intruder], Awaitable[None]]) -> None:
    async def perform() -> None:
        async with Meadow() as meadow:
            ca = meadow.node("ca1", {"ra1": RA_GRANTS})
            ra = meadow.node("ra1", {"ca1": ["/peer/incoming"]})
            ca.held.add("ca/issuing")
            await meadow.link(ca, ra)
            intruder = Intruder(ca, ra, ra.directory.links()[0])

            async def enroll(context: Context, request: EnrollRequest) -> CertificateAnswer:
                intruder.reached.append(context.operation)
                return CertificateAnswer(chain=())

            ca.dispatcher.register(ENROLL, enroll)
            await play(intruder)

    run(perform())


def test_the_intruder_is_served_what_its_role_grants() -> None:
    async def play(intruder: Intruder) -> None:
        assert await intruder.send() == (Status.OK, "")
        assert intruder.reached == ["ra.enroll"]

    scene(play)


@pytest.mark.parametrize("method", ["admin.apply", "ra.enroll ", "RA.ENROLL", "x" * 64])
def test_an_unknown_operation_is_denied_and_audited_like_any_other(method: str) -> None:
    async def play(intruder: Intruder) -> None:
        assert await intruder.send(method) == (Status.DENIED, "denied")
        (record,) = intruder.ca.audited
        assert (record.allowed, record.action) == (False, "unknown")
        assert record.detail["method"] == method
        assert record.chain == "alice via ra1"

    scene(play)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({**msgspec.to_builtins(ENROLMENT), "extra": 1})],
)
def test_a_payload_that_isnt_the_operations_is_denied_and_audited(payload: bytes) -> None:
    async def play(intruder: Intruder) -> None:
        assert await intruder.send(payload=payload) == (Status.DENIED, "denied")
        assert intruder.reached == []
        assert "can't be read" in intruder.ca.denials[0].reason

    scene(play)


@pytest.mark.parametrize(
    "audience",
    ["ca/other", "", "spiffe://test.example/node/ca1", "spiffe://test.example/node/va1"],
)
def test_a_request_signed_for_someone_else_is_denied(audience: str) -> None:
    async def play(intruder: Intruder) -> None:
        assert await intruder.send(audience=audience) == (Status.DENIED, "denied")
        assert "another audience" in intruder.ca.denials[0].reason

    scene(play)


@pytest.mark.parametrize(
    "authority", ["", "*", "**", "issuing/../other", "Issuing", "issuing\x00", "a/b", "x" * 5000]
)
def test_names_that_would_fool_a_pattern_are_denied(authority: str) -> None:
    async def play(intruder: Intruder) -> None:
        intruder.ca.grant({"ra1": ["/**"]})
        request = msgspec.structs.replace(ENROLMENT, authority=authority)
        audience = f"ca/{authority}"[:400]
        payload = msgspec.msgpack.encode(request)
        status, _ = await intruder.send(payload=payload, audience=audience)
        assert status == Status.DENIED
        assert intruder.reached == []

    scene(play)


@pytest.mark.parametrize("junk", [b"\x00", b"\xc1" * 100, b"\x94" + b"\xc4\x00" * 4])
def test_junk_instead_of_an_envelope_is_denied_and_audited_under_the_links_name(
    junk: bytes,
) -> None:
    async def play(intruder: Intruder) -> None:
        assert await intruder.send(message=junk) == (Status.DENIED, "denied")
        (record,) = intruder.ca.audited
        assert record.chain == "ra1"
        assert record.detail["rule"] == "envelope"

    scene(play)


@pytest.mark.parametrize("method", sorted(OPERATIONS))
def test_without_grants_every_operation_is_denied(method: str) -> None:
    async def play(intruder: Intruder) -> None:
        # The link is still up in the moment in which its peer loses everything.
        intruder.ca.directory.readmit = lambda: 0  # type: ignore[method-assign]
        intruder.ca.grant({})
        assert await intruder.send(method) == (Status.DENIED, "denied")
        assert "/peer/incoming" in intruder.ca.denials[0].reason

    scene(play)


def test_a_denied_try_that_is_cancelled_at_once_is_in_the_audit_log_all_the_same() -> None:
    async def play(intruder: Intruder) -> None:
        gate = asyncio.Event()
        audited: list[AuditRecord] = []

        async def slow_audit(record: AuditRecord) -> None:
            await gate.wait()
            audited.append(record)

        intruder.ca.dispatcher._trail._commit = slow_audit
        intruder.ca.grant({"ra1": ["/peer/incoming"]})
        task = asyncio.ensure_future(intruder.send())
        (far,) = intruder.ca.directory.links()
        await until(lambda: far.serving == 1)
        await until(lambda: intruder.ca.dispatcher._trail.pending)
        task.cancel()
        await until(lambda: far.serving == 0)
        gate.set()
        await until(lambda: audited)
        assert [record.allowed for record in audited] == [False]

    scene(play)


def test_a_read_that_is_cancelled_before_its_audit_entry_gets_no_answer() -> None:
    async def play(intruder: Intruder) -> None:
        order: list[str] = []

        async def status(context: Context, request: StatusRequest) -> CertificateAnswer:
            order.append("handled")
            return CertificateAnswer(chain=())

        async def audit(record: object) -> None:
            await asyncio.sleep(0.01)
            order.append("audited")

        intruder.ca.dispatcher._trail._commit = audit
        intruder.ca.dispatcher.register(STATUS, status)  # type: ignore[arg-type]
        payload = msgspec.msgpack.encode(StatusRequest(authority="issuing", serial=b"\x01"))
        await intruder.send("ra.status", payload=payload)
        order.append("answered")
        assert order == ["handled", "audited", "answered"]

    scene(play)


def test_a_defect_in_a_handler_says_nothing_and_ends_nothing() -> None:
    async def play(intruder: Intruder) -> None:
        async def broken(context: Context, request: EnrollRequest) -> CertificateAnswer:
            raise KeyError("/etc/secret")

        intruder.ca.dispatcher.register(ENROLL, broken)
        assert await intruder.send() == (Status.INTERNAL, "internal")
        assert await intruder.send() == (Status.INTERNAL, "internal")
        assert len(intruder.ca.audited) == 2

    scene(play)


def test_every_error_of_the_tree_has_an_answer_that_is_raised_again_as_an_error() -> None:
    from node_agent.peers.answers import encode_problem, problem_of, raise_problem

    def kinds(root: type[NodeAgentError]) -> list[type[NodeAgentError]]:
        return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]

    for kind in kinds(NodeAgentError):
        error = kind.__new__(kind)
        for name, value in {
            "detail": "d",
            "field": "",
            "remedy": "",
            "problem": "p",
            "retry_after_seconds": 1,
            "reason": "r",
            "rule": "",
        }.items():
            setattr(error, name, value)
        status, problem = problem_of(error)
        assert status != Status.OK
        again = decode_problem(encode_problem(problem))
        with pytest.raises(NodeAgentError):
            raise_problem(status, again, peer="ca1")
