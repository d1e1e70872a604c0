"""However many links a peer opens, it may ask for no more at a time."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.errors import LinkClosed
from node_agent.net import IncomingCall, NetSettings, RawAnswer
from node_agent.wire import Status
from node_agent.wire.settings import WireSettings
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, Ends, until

CREDITS = 8


class Gate:
    """A handler that answers when it is opened, and counts how many wait in it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def __call__(self, call: IncomingCall) -> RawAnswer:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return RawAnswer(Status.OK, b"done")


def ends_with(gate: Gate) -> Ends:
    return Ends(handler=gate, listener_settings=NetSettings(wire=WireSettings(credits=CREDITS)))


@pytest.mark.parametrize("links", [1, 2, 3, CREDITS, CREDITS + 3])
def test_links_of_one_peer_share_its_credits(links: int) -> None:
    async def scenario() -> None:
        ends = ends_with(Gate())
        await ends.listen()
        try:
            for _ in range(links):
                await ends.dial()
            part = max(1, CREDITS // links)
            await until(lambda: [link.available_credits for link in ends.dialled] == [part] * links)
        finally:
            await ends.close()

    run(scenario())


def test_links_that_are_opened_at_once_share_too() -> None:
    async def scenario() -> None:
        ends = ends_with(Gate())
        await ends.listen()
        try:
            await asyncio.gather(*(ends.dial() for _ in range(4)))
            await until(lambda: [link.available_credits for link in ends.dialled] == [2] * 4)
        finally:
            await ends.close()

    run(scenario())


def test_what_a_closed_link_had_goes_to_the_others() -> None:
    async def scenario() -> None:
        ends = ends_with(Gate())
        await ends.listen()
        try:
            first, second = await ends.dial(), await ends.dial()
            await until(lambda: second.available_credits == CREDITS // 2)
            first.abort()
            await until(lambda: second.available_credits == CREDITS)
        finally:
            await ends.close()

    run(scenario())


def test_what_was_sent_under_a_higher_grant_waits_its_turn() -> None:
    """Each new link lowers the grant of those before it, which have used theirs already."""

    async def scenario() -> None:
        gate = Gate()
        ends = ends_with(gate)
        await ends.listen()
        calls: list[asyncio.Task[RawAnswer]] = []
        try:
            for _ in range(4):
                link = await ends.dial()
                calls += [
                    asyncio.ensure_future(
                        link.call("x", b"", request_id=REQUEST_ID, timeout_seconds=10)
                    )
                    for _ in range(link.available_credits)
                ]
                await until(lambda: sum(link.serving for link in ends.accepted) == len(calls))  # noqa: B023
            assert len(calls) > CREDITS
            assert gate.most == CREDITS
            gate.open.set()
            answers = await asyncio.gather(*calls)
            assert {answer.payload for answer in answers} == {b"done"}
        finally:
            await ends.close()

    run(scenario())


def test_a_link_that_ends_gives_its_turns_back() -> None:
    async def scenario() -> None:
        gate = Gate()
        ends = ends_with(gate)
        await ends.listen()
        try:
            lost, kept = await ends.dial(), await ends.dial()
            await until(lambda: kept.available_credits == CREDITS // 2)
            calls = [
                asyncio.ensure_future(
                    lost.call("x", b"", request_id=REQUEST_ID, timeout_seconds=10)
                )
                for _ in range(CREDITS // 2)
            ]
            await until(lambda: gate.inside == CREDITS // 2)
            lost.abort()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, LinkClosed) for error in ended)
            await until(lambda: gate.inside == 0)
            gate.open.set()
            for _ in range(CREDITS + 1):
                await kept.call("x", b"", request_id=REQUEST_ID, timeout_seconds=5)
        finally:
            await ends.close()

    run(scenario())
