"""Calls over a real link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import CallTimeout, LinkClosed, LocalProtocolError
from node_agent.net import LinkChange, LinkState, NetSettings, RawAnswer
from node_agent.wire import Code, Status, WireSettings
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, Ends, linked, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node_agent.net import IncomingCall, Link


async def ask(link: Link, payload: bytes = b"hello", *, timeout_seconds: float = 5) -> RawAnswer:
    return await link.call(
        "ra.enroll", payload, request_id=REQUEST_ID, timeout_seconds=timeout_seconds
    )


class Gate:
    """A handler that holds every call until it is let go, and counts how each one ended."""

    def __init__(self) -> None:
        self.arrived: list[IncomingCall] = []
        self.cancelled = 0
        self.running = 0
        self.most_running = 0
        self.open = asyncio.Event()

    async def __call__(self, call: IncomingCall) -> RawAnswer:
        self.arrived.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return RawAnswer(Status.OK, call.payload)


def test_both_ends_can_call() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, _):
            assert (await ask(near, b"up")).payload == b"up"
            assert (await ask(far, b"down")).payload == b"down"
            assert near.local_dialled
            assert not far.local_dialled
            assert near.peer.node.name == "ra1"
            assert far.peer.node.name == "ca1"

    run(scenario())


def test_the_handler_learns_what_was_asked() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, ends):
            asking = asyncio.ensure_future(ask(near, b"payload", timeout_seconds=3))
            await until(lambda: gate.arrived)
            (call,) = gate.arrived
            assert call.link is far
            assert (call.method, call.payload) == ("ra.enroll", b"payload")
            assert call.request_id == REQUEST_ID
            left = call.deadline - ends.listening.clock.monotonic()
            assert 0 < left <= 3.001
            assert (near.in_flight, far.serving) == (1, 1)
            assert "in_flight=1" in repr(near)
            gate.open.set()
            assert (await asking).status is Status.OK
            assert (near.in_flight, far.serving) == (0, 0)

    run(scenario())


def test_an_empty_body_is_there_for_every_call() -> None:
    async def handler(call: IncomingCall) -> RawAnswer:
        return RawAnswer(Status.OK, b"".join([chunk async for chunk in call.body]) + b"|")

    async def scenario() -> None:
        async with linked(Ends(handler=handler)) as (near, _, _):
            assert (await ask(near)).payload == b"|"

    run(scenario())


def test_large_messages_and_bodies_pass() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(100_000)

    async def scenario() -> None:
        async with linked() as (near, _, _):
            large = bytes(range(256)) * 8000
            assert (await ask(near, large)).payload == large
            answer = await near.call(
                "x", b"sum", request_id=REQUEST_ID, timeout_seconds=10, body=body()
            )
            assert answer.payload == b"sum +5000000"

    run(scenario())


def test_a_body_that_nobody_reads_waits_at_the_window() -> None:
    produced = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(100):
            produced += 100_000
            yield bytes(100_000)

    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, _, _):
            call = near.call("x", b"", request_id=REQUEST_ID, timeout_seconds=10, body=body())
            asking = asyncio.ensure_future(call)
            await until(lambda: gate.arrived)
            assert await near.ping(5) > 0, "small frames pass a body that waits"
            gate.open.set()
            assert (await asking).status is Status.OK, "answered without reading the body"
            assert produced <= 500_000

    run(scenario())


def test_an_error_in_the_body_reaches_the_caller_and_ends_the_request() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        raise ZeroDivisionError

    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, _, _):
            with pytest.raises(ZeroDivisionError):
                await near.call("x", b"", request_id=REQUEST_ID, timeout_seconds=5, body=body())
            assert near.in_flight == 0
            await until(lambda: gate.cancelled == len(gate.arrived))

    run(scenario())


def test_a_reader_of_a_body_learns_that_the_rest_will_not_come() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    outcome: list[BaseException] = []

    async def handler(call: IncomingCall) -> RawAnswer:
        try:
            async for _ in call.body:
                pass
        except BaseException as error:
            outcome.append(error)
            raise
        return RawAnswer(Status.OK)

    async def scenario() -> None:
        async with linked(Ends(handler=handler)) as (near, _, _):
            with pytest.raises(CallTimeout):
                await near.call("x", b"", request_id=REQUEST_ID, timeout_seconds=0.1, body=body())
            await until(lambda: outcome)
            assert isinstance(outcome[0], asyncio.CancelledError | LinkClosed)

    run(scenario())


def test_a_handler_that_fails_answers_internal_without_detail() -> None:
    async def handler(call: IncomingCall) -> RawAnswer:
        raise RuntimeError("secret detail")

    async def scenario() -> None:
        async with linked(Ends(handler=handler)) as (near, _, _):
            assert await ask(near) == RawAnswer(Status.INTERNAL, b"")

    run(scenario())


def test_an_answer_too_large_for_the_peer_becomes_internal() -> None:
    async def handler(call: IncomingCall) -> RawAnswer:
        return RawAnswer(Status.OK, bytes(100_001))

    async def scenario() -> None:
        small = NetSettings(wire=WireSettings(max_message_bytes=100_000))
        ends = Ends(handler=handler, dialler_settings=small)
        async with linked(ends) as (near, _, _):
            assert await ask(near) == RawAnswer(Status.INTERNAL, b"")

    run(scenario())


def test_no_answer_in_time_is_a_call_timeout_at_both_ends() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, _):
            with pytest.raises(CallTimeout):
                await ask(near, timeout_seconds=0.05)
            assert near.in_flight == 0
            await until(lambda: gate.cancelled == 1 and far.serving == 0)
            gate.open.set()
            assert (await ask(near)).status is Status.OK, "the link is still good"

    run(scenario())


def test_cancelling_a_call_frees_the_credit_and_stops_the_handler() -> None:
    async def scenario() -> None:
        gate = Gate()
        settings = NetSettings(wire=WireSettings(credits=1))
        async with linked(Ends(handler=gate, listener_settings=settings)) as (near, far, _):
            asking = asyncio.ensure_future(ask(near))
            await until(lambda: gate.arrived)
            assert near.available_credits == 0
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert near.available_credits == 1
            await until(lambda: gate.cancelled == 1 and far.serving == 0)

    run(scenario())


def test_a_call_without_a_credit_is_refused_here() -> None:
    async def scenario() -> None:
        gate = Gate()
        settings = NetSettings(wire=WireSettings(credits=1))
        async with linked(Ends(handler=gate, listener_settings=settings)) as (near, _, _):
            asking = asyncio.ensure_future(ask(near))
            await until(lambda: gate.arrived)
            with pytest.raises(LocalProtocolError):
                await ask(near)
            gate.open.set()
            await asking

    run(scenario())


def test_handlers_that_are_still_ending_count_against_the_credits() -> None:
    """A credit comes back with the cancellation; the work that it started may take longer."""

    async def scenario() -> None:
        release = asyncio.Event()
        running = 0
        most = 0

        async def slow_to_end(call: IncomingCall) -> RawAnswer:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.shield(release.wait())
            except asyncio.CancelledError:
                await release.wait()
                raise
            finally:
                running -= 1
            return RawAnswer(Status.OK)

        settings = NetSettings(wire=WireSettings(credits=2))
        ends = Ends(handler=slow_to_end, listener_settings=settings)
        async with linked(ends) as (near, far, _):
            for _ in range(10):
                asking = asyncio.ensure_future(ask(near))
                await near.ping(5)
                asking.cancel()
            await near.ping(5)
            assert most == 2
            waiting = asyncio.ensure_future(ask(near))
            await near.ping(5)
            assert far.serving == 1
            release.set()
            assert (await waiting).status is Status.OK

    run(scenario())


def test_credits_and_demand_reach_the_other_end_and_its_observers() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, _):
            seen: list[LinkChange] = []
            near.add_observer(lambda _, change: seen.append(change))
            far.set_credits(7)
            far.announce_queue(3)
            await until(lambda: near.available_credits == 7 and near.peer_queued == 3)
            assert seen == [LinkChange.CREDITS, LinkChange.DEMAND]

    run(scenario())


def test_round_trip_is_measured_without_being_asked() -> None:
    async def scenario() -> None:
        async with linked() as (near, far, _):
            await until(lambda: near.round_trip_seconds and far.round_trip_seconds)
            assert 0 < near.round_trip_seconds < 10

    run(scenario())


def test_drain_lets_calls_finish_and_takes_no_new_ones() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, _):
            seen: list[LinkChange] = []
            near.add_observer(lambda _, change: seen.append(change))
            asking = asyncio.ensure_future(ask(near))
            await until(lambda: gate.arrived)
            draining = asyncio.ensure_future(far.drain(5))
            await until(lambda: near.state is LinkState.DRAINING)
            with pytest.raises(LinkClosed):
                await ask(near)
            gate.open.set()
            assert (await asking).status is Status.OK
            await draining
            await near.wait_closed()
            assert near.state is far.state is LinkState.CLOSED
            assert seen == [LinkChange.DRAINING, LinkChange.CLOSED]

    run(scenario())


def test_drain_cuts_when_its_time_is_up() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, _):
            asking = asyncio.ensure_future(ask(near))
            await until(lambda: gate.arrived)
            await far.drain(0.05)
            with pytest.raises(LinkClosed):
                await asking
            assert gate.cancelled == 1

    run(scenario())


def test_terminate_tells_the_peer_why() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, _):
            asking = asyncio.ensure_future(ask(near))
            await until(lambda: gate.arrived)
            far.terminate(Code.UNTRUSTED, "the role was taken away")
            with pytest.raises(LinkClosed, match="the role was taken away"):
                await asking
            await far.wait_closed()
            assert gate.cancelled == 1

    run(scenario())


def test_abort_ends_calls_handlers_and_observers_at_both_ends() -> None:
    async def scenario() -> None:
        gate = Gate()
        async with linked(Ends(handler=gate)) as (near, far, _):
            closed: list[Link] = []
            near.on_closed(closed.append)
            asking = asyncio.ensure_future(ask(near))
            pinging = asyncio.ensure_future(near.ping(5))
            await until(lambda: gate.arrived)
            near.abort()
            with pytest.raises(LinkClosed):
                await asking
            results = await asyncio.gather(pinging, return_exceptions=True)
            assert isinstance(results[0], LinkClosed | float)
            await near.wait_closed()
            await far.wait_closed()
            assert gate.cancelled == 1
            assert closed == [near]
            near.on_closed(closed.append)
            assert closed == [near, near]

    run(scenario())


def test_a_closed_link_is_harmless_to_use() -> None:
    async def scenario() -> None:
        async with linked() as (near, _, _):
            near.abort()
            near.abort()
            near.terminate(Code.INTERNAL, "")
            near.announce_queue(1)
            near.set_credits(1)
            await near.drain(1)
            assert near.available_credits == 0
            with pytest.raises(LinkClosed):
                await ask(near)
            with pytest.raises(LinkClosed):
                await near.ping(1)

    run(scenario())


def test_a_ping_that_is_not_answered_times_out() -> None:
    async def scenario() -> None:
        async with linked() as (near, _, _):
            with pytest.raises(CallTimeout):
                await near.ping(0.0)

    run(scenario())


def test_five_hundred_calls_from_each_end_at_once_all_get_their_own_answer() -> None:
    async def many(link: Link, name: str) -> None:
        free = asyncio.Semaphore(50)

        async def one(number: int) -> None:
            payload = f"{name} {number}".encode()
            async with free:
                assert (await ask(link, payload)).payload == payload

        await asyncio.gather(*(one(number) for number in range(500)))

    async def scenario() -> None:
        async with linked() as (near, far, _):
            await asyncio.gather(many(near, "near"), many(far, "far"))
            assert near.in_flight == far.in_flight == near.serving == far.serving == 0

    run(scenario())
