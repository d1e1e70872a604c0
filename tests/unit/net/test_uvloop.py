"""The situations in which event loops differ, on the loop that production uses."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from node_agent.errors import ConnectError, HandshakeError, LinkClosed
from node_agent.net import LinkState, NetSettings, RawAnswer
from node_agent.wire import Code, Status, WireSettings
from tests.support.links import REQUEST_ID, Ends, linked, until
from tests.support.network import Relay
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from node_agent.net import IncomingCall, Link


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await coroutine

    with warnings.catch_warnings():
        uvloop.run(bounded())
        gc.collect()


async def ask(link: Link, payload: bytes = b"hello") -> RawAnswer:
    return await link.call("x", payload, request_id=REQUEST_ID, timeout_seconds=10)


def test_calls_bodies_and_large_messages() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    async def scenario() -> None:
        async with linked() as (near, far, _):
            large = bytes(range(256)) * 8000
            answers = await asyncio.gather(*(ask(link, large) for link in (near, far) * 5))
            assert all(answer.payload == large for answer in answers)
            answer = await near.call(
                "x", b"", request_id=REQUEST_ID, timeout_seconds=10, body=body()
            )
            assert answer.payload == b" +10000000"

    run(scenario())


def test_drain_terminate_and_abort_close_both_ends() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        first, second, third = [await ends.dial() for _ in range(3)]
        await until(lambda: len(ends.accepted) == 3)
        await first.drain(5)
        second.terminate(Code.UNTRUSTED, "the role was taken away")
        third.abort()
        for link in [*ends.dialled, *ends.accepted]:
            await link.wait_closed()
        reasons = [link.close_reason for link in ends.accepted]
        assert "peer: the role was taken away" in reasons
        await ends.close()

    run(scenario())


def test_a_revoked_peer_loses_its_link_and_is_refused_afterward() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, ends):
            crl = ends.authority.crl([ends.dialling.current.certificate])
            ends.listening.replace(ends.authority.tls_identity("ra1", crls=[crl]))
            async with asyncio.timeout(1):
                await near.wait_closed()
                await far.wait_closed()
            with pytest.raises(HandshakeError, match="is revoked"):
                await ends.dial()

    run(scenario())


def test_foreign_peers_and_dead_addresses_are_refused() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        foreign = ThrowawayAuthority("Foreign").holder("ca1")
        with pytest.raises(HandshakeError):
            await ends.dial(identity=foreign)
        async with Relay(ends.address) as relay:
            relay.refuses = True
            with pytest.raises((HandshakeError, ConnectError)):
                await ends.dial(relay.address)
        address = ends.address
        await ends.close()
        with pytest.raises(ConnectError):
            await ends.dial(address)

    run(scenario())


def test_cancelled_dials_leave_nothing_behind() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        before = len(asyncio.all_tasks())
        for number in range(30):
            dialling = asyncio.ensure_future(ends.dial())
            await asyncio.sleep(number / 4000)
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
        for link in ends.dialled:
            link.abort()
        await until(lambda: all(link.state is LinkState.CLOSED for link in ends.accepted))
        await until(lambda: len(asyncio.all_tasks()) <= before)
        assert all(link.state is LinkState.CLOSED for link in ends.dialled)
        await ends.close()

    run(scenario())


def test_half_open_and_stalled_peers_are_noticed() -> None:
    impatient = NetSettings(
        wire=WireSettings(
            keep_alive_seconds=0.1, keep_alive_timeout_seconds=0.3, write_stall_seconds=0.5
        )
    )

    async def hold(call: IncomingCall) -> RawAnswer:
        await asyncio.Event().wait()
        return RawAnswer(Status.OK)

    async def scenario() -> None:
        ends = Ends(handler=hold, dialler_settings=impatient)
        await ends.listen()
        async with Relay(ends.address) as relay:
            for harm in (relay.swallow, relay.stall):
                link = await ends.dial(relay.address)
                harm("up")
                with pytest.raises(LinkClosed):
                    await ask(link, bytes(4_000_000))
                await link.wait_closed()
                relay.resume()
        await ends.close()

    run(scenario())


def test_a_listener_closes_with_handshakes_under_way() -> None:
    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        _, stranger = await asyncio.open_connection(ends.address.host, ends.address.port)
        link = await ends.dial()
        assert ends.listener is not None
        await ends.listener.close()
        ends.listener = None
        assert (await ask(link)).payload == b"hello"
        stranger.close()
        await ends.close()

    run(scenario())
