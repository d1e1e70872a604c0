"""Retries while the deadline lasts, the same request each time, and whose answers are believed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import (
    AcquireTimeout,
    CallTimeout,
    PolicyDenied,
    RemoteError,
    RequestRefused,
    Unavailable,
)
from node_agent.net import IncomingCall, RawAnswer
from node_agent.peers.envelope import body_digest_of, sign_answer
from node_agent.peers.operations import ENROLL, CertificateAnswer, EnrollRequest
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, PeerNode, until
from tests.unit.peers.test_calls_over_links import CA_GRANTS, ENROLMENT, RA_GRANTS, a_pair, enroll

if TYPE_CHECKING:
    from node_agent.peers.context import Context


class Twin:
    """An RA with two CA nodes that hold the same CA; each counts what it served."""

    def __init__(self, meadow: Meadow) -> None:
        self.meadow = meadow
        self.served: list[tuple[str, bytes]] = []
        self.ra = meadow.node("ra1", {"ca1": CA_GRANTS, "ca2": CA_GRANTS})
        self.cas = [self._ca("ca1"), self._ca("ca2")]

    def _ca(self, name: str) -> PeerNode:
        ca = self.meadow.node(name, {"ra1": RA_GRANTS})
        ca.held.add("ca/issuing")

        async def handler(context: Context, request: EnrollRequest) -> CertificateAnswer:
            self.served.append((name, context.request_id))
            return CertificateAnswer(chain=(name.encode(),))

        ca.dispatcher.register(ENROLL, handler)
        return ca

    async def ask(self, seconds: float = 5) -> str:
        answer = await self.ra.caller.call(
            ENROLL, ENROLMENT, peers=[ca.node for ca in self.cas], timeout_seconds=seconds
        )
        return answer.chain[0].decode()


def test_a_lost_link_sends_the_same_request_over_another() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            twin = Twin(meadow)
            seen: list[tuple[bytes, bytes]] = []

            async def dying(call: IncomingCall) -> RawAnswer:
                seen.append((call.request_id, call.payload))
                call.link.abort()
                return RawAnswer(Status.OK)

            honest = twin.cas[1].dispatcher.handle

            async def watching(call: IncomingCall) -> RawAnswer:
                seen.append((call.request_id, call.payload))
                return await honest(call)

            twin.cas[0].dispatcher.handle = dying  # type: ignore[method-assign]
            twin.cas[1].dispatcher.handle = watching  # type: ignore[method-assign]
            await meadow.link(twin.cas[0], twin.ra)
            task = asyncio.ensure_future(twin.ask())
            await until(lambda: seen)
            await meadow.link(twin.cas[1], twin.ra)
            assert await task == "ca2"
            assert seen[0] == seen[1]  # the same id and the very same signed bytes

    run(scene())


def test_a_node_that_cant_serve_now_is_left_for_one_that_can() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            twin = Twin(meadow)

            async def locked(context: Context, request: EnrollRequest) -> CertificateAnswer:
                raise Unavailable("the token is locked", retry_after_seconds=9)

            twin.cas[0].dispatcher.register(ENROLL, locked)
            for ca in twin.cas:
                await meadow.link(ca, twin.ra)
            assert {await twin.ask() for _ in range(5)} == {"ca2"}
            twin.cas[1].dispatcher.register(ENROLL, locked)
            with pytest.raises(Unavailable) as refused:
                await twin.ask()
            assert refused.value.retry_after_seconds == 9

    run(scene())


def test_a_refusal_is_final_and_isnt_asked_elsewhere() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            twin = Twin(meadow)
            for ca in twin.cas:
                ca.grant({"ra1": ["/peer/incoming"]})
                await meadow.link(ca, twin.ra)
            with pytest.raises(PolicyDenied):
                await twin.ask()
            assert len([*twin.cas[0].denials, *twin.cas[1].denials]) == 1

    run(scene())


def test_without_any_link_the_call_waits_for_one_until_its_deadline() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            twin = Twin(meadow)
            with pytest.raises(AcquireTimeout):
                await twin.ask(0.05)
            task = asyncio.ensure_future(twin.ask())
            await asyncio.sleep(0.05)
            await meadow.link(twin.cas[1], twin.ra)
            assert await task == "ca2"

    run(scene())


def test_nobody_to_ask_is_unavailable() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ra = meadow.node("ra1", {})
            with pytest.raises(Unavailable):
                await ra.caller.call(ENROLL, ENROLMENT, peers=[], timeout_seconds=1)

    run(scene())


def test_a_slow_handler_ends_at_the_callers_deadline() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            ended = asyncio.Event()

            async def slow(context: Context, request: EnrollRequest) -> CertificateAnswer:
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.set()
                return CertificateAnswer(chain=())

            ca.dispatcher.register(ENROLL, slow)
            with pytest.raises(CallTimeout):
                await enroll(ra, ca, timeout_seconds=0.1)
            await asyncio.wait_for(ended.wait(), 2)
            await until(lambda: ca.directory.links()[0].serving == 0)

    run(scene())


def test_cancelling_the_call_cancels_the_handler() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            began, ended = asyncio.Event(), asyncio.Event()

            async def slow(context: Context, request: EnrollRequest) -> CertificateAnswer:
                began.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.set()
                return CertificateAnswer(chain=())

            ca.dispatcher.register(ENROLL, slow)
            task = asyncio.ensure_future(enroll(ra, ca))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(ended.wait(), 2)

    run(scene())


def test_a_request_that_is_too_large_is_refused_here() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            huge = EnrollRequest(authority="issuing", profile="server", csr=bytes(5_000_000))
            with pytest.raises(RequestRefused):
                await ra.caller.call(ENROLL, huge, peers=[ca.node], timeout_seconds=5)
            long = EnrollRequest(
                authority="issuing", profile="server", csr=b"", validity_seconds=1 << 64
            )
            with pytest.raises(RequestRefused, match="number"):
                await ra.caller.call(ENROLL, long, peers=[ca.node], timeout_seconds=5)
            await enroll(ra, ca)

    run(scene())


def test_answers_of_a_node_that_may_not_speak_for_the_ca_arent_believed() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)
            ra.grant({"ca1": ["/peer/incoming", "/peer/upstream", "/ca/other"]})
            with pytest.raises(RemoteError) as caught:
                await enroll(ra, ca)
            assert caught.value.problem == "untrusted-answer"

    run(scene())


@pytest.mark.parametrize("forgery", ["unsigned", "empty", "another request", "other status"])
def test_forged_answers_arent_believed(forgery: str) -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)

            async def forge(call: IncomingCall) -> RawAnswer:
                digest = body_digest_of(call.payload)
                match forgery:
                    case "unsigned":
                        return RawAnswer(Status.OK, b"\x91\x90")
                    case "empty":
                        return RawAnswer(Status.OK, b"")
                    case "another request":
                        digest = bytes(32)
                answer = sign_answer(
                    ca.holder, body_digest=digest, status=Status.NOT_FOUND, payload=b""
                )
                status = Status.OK if forgery == "other status" else Status.NOT_FOUND
                return RawAnswer(status, answer)

            ca.dispatcher.handle = forge  # type: ignore[method-assign]
            with pytest.raises(RemoteError) as caught:
                await enroll(ra, ca)
            assert caught.value.problem == "untrusted-answer"

    run(scene())


def test_an_answer_of_the_wrong_form_is_a_remote_error() -> None:
    async def scene() -> None:
        async with Meadow() as meadow:
            ca, ra = await a_pair(meadow)

            async def odd(call: IncomingCall) -> RawAnswer:
                digest = body_digest_of(call.payload)
                answer = sign_answer(ca.holder, body_digest=digest, status=0, payload=b"\xa1\xff")
                return RawAnswer(Status.OK, answer)

            ca.dispatcher.handle = odd  # type: ignore[method-assign]
            with pytest.raises(RemoteError, match="can't be read"):
                await enroll(ra, ca)

    run(scene())
