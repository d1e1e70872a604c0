"""Links under bad networks and worse peers: ways in which such systems have failed elsewhere."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import HandshakeError, LinkClosed, NetworkError
from node_agent.net import LinkState, NetSettings, RawAnswer
from node_agent.wire import Status, WireSettings
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, Ends, linked, until
from tests.support.network import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from node_agent.net import IncomingCall, Link
    from node_agent.net.tls import PeerIdentity

IMPATIENT = NetSettings(
    wire=WireSettings(
        keep_alive_seconds=0.1,
        keep_alive_timeout_seconds=1.0,
        write_stall_seconds=1.5,
        hello_timeout_seconds=5,
    )
)
PATIENT = NetSettings(
    wire=WireSettings(
        keep_alive_seconds=0.2, keep_alive_timeout_seconds=60, write_stall_seconds=0.5
    )
)


@asynccontextmanager
async def relayed(ends: Ends) -> AsyncIterator[tuple[Link, Link, Relay]]:
    await ends.listen()
    async with Relay(ends.address) as relay:
        try:
            near = await ends.dial(relay.address)
            await until(lambda: ends.accepted)
            yield near, ends.accepted[0], relay
        finally:
            await ends.close()


async def ask(link: Link, payload: bytes = b"hello", *, seconds: float = 20) -> RawAnswer:
    return await link.call("x", payload, request_id=REQUEST_ID, timeout_seconds=seconds)


def test_a_half_open_connection_is_noticed_and_its_calls_end() -> None:
    """Teleport #39184: the connection looks healthy, and nobody is there."""

    async def scenario() -> None:
        ends = Ends(dialler_settings=IMPATIENT, listener_settings=IMPATIENT)
        async with relayed(ends) as (near, far, relay):
            relay.swallow()
            asking = asyncio.ensure_future(ask(near))
            with pytest.raises(LinkClosed, match="keep alive"):
                await asking
            await far.wait_closed()
            assert far.state is LinkState.CLOSED

    run(scenario())


def test_a_quiet_but_healthy_link_stays() -> None:
    async def scenario() -> None:
        ends = Ends(dialler_settings=IMPATIENT, listener_settings=IMPATIENT)
        async with relayed(ends) as (near, _, _):
            first = near.round_trip_seconds
            await until(lambda: near.round_trip_seconds not in (None, first))
            assert (await ask(near)).payload == b"hello"

    run(scenario())


def test_a_reader_that_stalls_ends_the_link_and_not_the_writer() -> None:
    """Teleport #47825: a writer waits for ever on a peer that stopped reading."""

    async def scenario() -> None:
        ends = Ends(dialler_settings=PATIENT, listener_settings=PATIENT)
        async with relayed(ends) as (near, _, relay):
            relay.stall("up")
            payload = bytes(4_000_000)
            calls = [asyncio.ensure_future(ask(near, payload)) for _ in range(50)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, LinkClosed) for result in results)
            assert "write stalled" in near.close_reason

    run(scenario(), timeout_seconds=40)


def test_bodies_wait_while_the_network_takes_nothing_and_go_on_after() -> None:
    produced = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(30):
            produced += 100_000
            yield bytes(100_000)

    async def scenario() -> None:
        async with relayed(Ends()) as (near, _, relay):
            paused: list[bool] = []
            pause, resume = near.pause_writing, near.resume_writing
            near.pause_writing = lambda: (paused.append(True), pause())  # type: ignore[method-assign]
            near.resume_writing = lambda: (paused.append(False), resume())  # type: ignore[method-assign]
            relay.stall("up")
            calls = []
            for _ in range(50):
                call = near.call("x", b"", request_id=REQUEST_ID, timeout_seconds=40, body=body())
                calls.append(asyncio.ensure_future(call))
                await asyncio.sleep(0.002)  # a write each: only the later ones find the pipe full
            await until(lambda: paused == [True])
            assert produced < 50 * 400_000
            relay.resume()
            answers = await asyncio.gather(*calls)
            assert {answer.payload for answer in answers} == {b" +3000000"}
            assert paused[-1] is False

    run(scenario(), timeout_seconds=50)


def test_a_link_that_ends_stops_bodies_without_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    async def scenario() -> None:
        async with relayed(Ends()) as (near, _, relay):
            relay.stall("up")
            calls = [
                asyncio.ensure_future(
                    near.call("x", b"", request_id=REQUEST_ID, timeout_seconds=40, body=endless())
                )
                for _ in range(50)
            ]
            await asyncio.sleep(0.2)
            near.abort()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, LinkClosed) for result in results)

    run(scenario(), timeout_seconds=50)


def test_two_ends_that_both_send_much_never_wait_for_each_other() -> None:
    """yamux #142, rust-yamux #102: each end stops reading until the other one reads."""

    async def large(call: IncomingCall) -> RawAnswer:
        return RawAnswer(Status.OK, bytes(3_000_000))

    async def scenario() -> None:
        async with linked(Ends(handler=large, dialler_handler=large)) as (near, far, _):
            calls = [ask(link, bytes(3_000_000)) for link in (near, far) for _ in range(15)]
            answers = await asyncio.gather(*calls)
            assert {len(answer.payload) for answer in answers} == {3_000_000}

    run(scenario(), timeout_seconds=50)


def test_a_slow_network_changes_nothing_but_time() -> None:
    async def scenario() -> None:
        async with relayed(Ends()) as (near, _, relay):
            relay.delay_seconds = 0.01
            large = bytes(range(256)) * 2000
            answers = await asyncio.gather(*(ask(near, large) for _ in range(5)))
            assert all(answer.payload == large for answer in answers)

    run(scenario())


def test_a_cut_connection_ends_calls_handlers_and_both_links() -> None:
    ended: list[str] = []

    async def handler(call: IncomingCall) -> RawAnswer:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.method)
        raise AssertionError

    async def scenario() -> None:
        async with relayed(Ends(handler=handler)) as (near, far, relay):
            calls = [asyncio.ensure_future(ask(near)) for _ in range(20)]
            await until(lambda: far.serving == 20)
            relay.cut()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, LinkClosed) for result in results)
            await near.wait_closed()
            await far.wait_closed()
            assert len(ended) == 20

    run(scenario())


def test_a_healed_partition_is_only_a_new_dial_away() -> None:
    async def scenario() -> None:
        ends = Ends(dialler_settings=IMPATIENT, listener_settings=IMPATIENT)
        async with relayed(ends) as (near, _, relay):
            relay.swallow()
            await near.wait_closed()
            relay.resume()
            again = await ends.dial(relay.address)
            assert (await ask(again)).payload == b"hello"

    run(scenario())


@pytest.mark.parametrize("phase", ["queue", "send", "receive"])
def test_cancelling_a_call_in_any_phase_leaks_nothing(phase: str) -> None:
    """The rest of the matrix: dial and handshake are in ``test_dial.py``."""

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async def hold(call: IncomingCall) -> RawAnswer:
        if call.method == "large":
            return RawAnswer(Status.OK, bytes(4_000_000))
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        async with linked(Ends(handler=hold)) as (near, far, _):
            for _ in range(20):
                call = near.call(
                    "large" if phase == "receive" else "hold",
                    b"",
                    request_id=REQUEST_ID,
                    timeout_seconds=20,
                    body=body() if phase == "send" else None,
                )
                asking = asyncio.ensure_future(call)
                if phase == "queue":
                    await asyncio.sleep(0)  # opened, and not yet written
                else:
                    await near.ping(5)  # under way
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            assert near.in_flight == 0
            assert near.available_credits == 50
            await until(lambda: far.serving == 0)
            assert (await near.ping(5)) > 0

    run(scenario())


def test_a_large_body_needs_flat_memory() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield bytes(65_536)

    async def count(call: IncomingCall) -> RawAnswer:
        size = 0
        async for chunk in call.body:
            size += len(chunk)
        return RawAnswer(Status.OK, str(size).encode())

    async def scenario() -> None:
        async with linked(Ends(handler=count)) as (near, _, _):
            tracemalloc.start()
            try:
                answer = await near.call(
                    "x", b"", request_id=REQUEST_ID, timeout_seconds=50, body=body()
                )
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert answer.payload == b"26214400"
            assert peak < 10_000_000

    run(scenario(), timeout_seconds=55)


def test_links_that_come_and_go_leave_no_tasks_and_no_links_behind() -> None:
    # Only its own ones: what another test left in this process is that test's fault.
    links: list[weakref.ref[Link]] = []

    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        before = len(asyncio.all_tasks())
        for number in range(20):
            link = await ends.dial()
            await ask(link)
            if number % 2:
                link.abort()
            await link.drain(5)
        await until(lambda: all(link.state is LinkState.CLOSED for link in ends.accepted))
        for link in ends.accepted:
            await link.wait_closed()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        await ends.close()
        links.extend(map(weakref.ref, (*ends.dialled, *ends.accepted)))

    run(scenario())
    gc.collect()
    assert len(links) == 40
    assert [link for link in links if link() is not None] == []


@pytest.mark.parametrize("leaving", ["listener", "dialler"])
def test_an_end_that_leaves_as_tls_is_done_cuts_the_connection(
    leaving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cut asyncio waits up to half a minute for a goodbye that may never come."""

    async def scenario() -> None:
        ends = Ends()
        await ends.listen()
        listener = ends.listener
        assert listener is not None
        holder = ends.listening if leaving == "listener" else ends.dialling
        verify = holder.verify_peer
        left: list[asyncio.Task[None]] = []
        swallowed = asyncio.Event()

        def verify_and_leave(chain_der: Sequence[bytes]) -> PeerIdentity:
            # TLS is done; whoever waits for it will hear of that after this.
            relay.swallow("up" if leaving == "listener" else "down")
            swallowed.set()
            if leaving == "listener":
                left.append(asyncio.ensure_future(listener.close()))
            else:
                dial.cancel()
            return verify(chain_der)

        monkeypatch.setattr(holder, "verify_peer", verify_and_leave)
        async with Relay(ends.address) as relay:
            dial = asyncio.ensure_future(ends.dial(relay.address))
            await swallowed.wait()
            await until(lambda: not relay.open_connections)
            with suppress(asyncio.CancelledError, NetworkError, HandshakeError):
                await dial
            await asyncio.gather(*left)
            await ends.close()

    run(scenario())
