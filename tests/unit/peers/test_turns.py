"""Turns: who asks beside a flood is begun next; nothing leaks, whoever gives up when."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.identity import NodeIdentity
from node_agent.peers.turns import Turn, Turns
from tests.support.clock import ManualClock
from tests.support.event_loop import run

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACES = 8
CREDITS = 50


def node(name: str) -> NodeIdentity:
    return NodeIdentity("pki.example", name)


class Door:
    """Requests for turns, and which of them were begun, in order."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.turns = Turns(self.clock)
        self.begun: list[str] = []
        self.held: list[tuple[str, Turn]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, peer: str, origin: str | None = None, *, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._take(peer, origin or peer)) for _ in range(times)]

    async def _take(self, peer: str, origin: str) -> None:
        turn = await self.turns.take(node(peer), origin.encode())
        self.begun.append(origin)
        self.held.append((origin, turn))

    def end(self, origin: str) -> None:
        """End the oldest that is under way of ``origin``."""
        found = next(item for item in self.held if item[0] == origin)
        self.held.remove(found)
        found[1].end()

    def count(self, origins: Iterable[str]) -> int:
        wanted = set(origins)
        return sum(origin in wanted for origin, _ in self.held)

    async def settle(self) -> None:
        """Let the loop turn as often as all that could be begun need."""
        for _ in range(2 * sum(not task.done() for task in self.tasks) + 4):
            await asyncio.sleep(0)


def test_who_asks_alone_has_all_places_one_in_each_turn_of_the_loop() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("ra1", times=CREDITS)
        await asyncio.sleep(0)
        assert len(door.begun) == 1
        await door.settle()
        assert len(door.begun) == CREDITS

    run(scenario())


def test_beside_others_each_peer_has_its_share() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("ra1", times=CREDITS)
        door.ask("ra2", times=CREDITS)
        await door.settle()
        assert (door.count(["ra1"]), door.count(["ra2"])) == (PLACES // 2, PLACES // 2)
        door.end("ra1")
        await door.settle()
        assert (door.count(["ra1"]), door.count(["ra2"])) == (PLACES // 2, PLACES // 2)
        assert door.begun.count("ra1") == PLACES // 2 + 1

    run(scenario())


def test_one_request_beside_a_flood_is_begun_in_the_next_turn_but_one() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("honest")
        door.ask("hostile", times=CREDITS)
        await door.settle()
        door.end("honest")
        before = len(door.begun)
        door.end("hostile")
        door.ask("honest")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "honest" in door.begun[before : before + 2]

    run(scenario())


def test_origins_share_what_their_proxy_may() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("proxy", "hostile", times=CREDITS)
        door.ask("proxy", "honest", times=CREDITS)
        await door.settle()
        assert (door.count(["hostile"]), door.count(["honest"])) == (PLACES // 2, PLACES // 2)

    run(scenario())


def test_a_proxy_that_invents_origins_takes_no_more_than_its_share() -> None:
    async def scenario() -> None:
        door = Door()
        invented = [f"tenant{number}" for number in range(CREDITS)]
        door.ask("ra1")
        for name in invented:
            door.ask("proxy", name)
        await door.settle()
        assert door.count(invented) == PLACES // 2
        door.ask("ra1", times=PLACES // 2)
        await door.settle()
        assert door.count(["ra1"]) == PLACES // 2

    run(scenario())


def test_who_is_gone_for_a_second_has_no_share_any_more() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("ra2")
        await door.settle()
        door.end("ra2")
        door.ask("ra1", times=CREDITS)
        await door.settle()
        assert door.count(["ra1"]) == PLACES // 2
        door.clock.advance(1.1)
        door.ask("ra1")
        door.end("ra1")
        await door.settle()
        assert len(door.begun) == CREDITS + 2

    run(scenario())


@pytest.mark.parametrize("turns", range(4))
def test_cancelling_at_any_moment_leaves_the_place_to_the_next(turns: int) -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("ra2")
        door.ask("ra1", times=PLACES // 2)
        await door.settle()
        door.ask("ra1", times=2)
        await door.settle()
        leaving, staying = door.tasks[-2:]
        assert not leaving.done()
        door.end("ra1")
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await door.settle()
        if not leaving.cancelled():  # it was begun, and then there was nothing left to cancel
            door.end("ra1")
            await door.settle()
        assert staying.done()
        assert door.count(["ra1"]) == PLACES // 2

    run(scenario())


def test_ending_twice_gives_up_one_place() -> None:
    async def scenario() -> None:
        door = Door()
        door.ask("ra2")
        door.ask("ra1", times=CREDITS)
        await door.settle()
        _, turn = next(item for item in door.held if item[0] == "ra1")
        turn.end()
        turn.end()
        await door.settle()
        assert door.begun.count("ra1") == PLACES // 2 + 1

    run(scenario())


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_whatever_comes_and_goes_everyone_is_begun_at_last(seed: int, steps: int) -> None:
    async def scenario() -> None:
        choice = random.Random(seed)
        door = Door()
        for _ in range(steps):
            match choice.randrange(5):
                case 0 | 1:
                    peer = choice.choice(["ra1", "ra2", "proxy"])
                    door.ask(peer, choice.choice([peer, "a", "b"]), times=choice.randrange(8))
                case 2 if door.held:
                    door.end(choice.choice(door.held)[0])
                case 3 if door.tasks:
                    choice.choice(door.tasks).cancel()
                case _:
                    await asyncio.sleep(0)
        for _ in range(len(door.tasks) + 1):  # each round ends at least one
            while door.held:
                door.end(door.held[0][0])
            await door.settle()
        assert all(task.done() for task in door.tasks)
        door.clock.advance(2)
        door.ask("last", times=CREDITS)
        await door.settle()
        assert door.count(["last"]) == CREDITS  # nobody is counted any more, or remembered

    run(scenario())
