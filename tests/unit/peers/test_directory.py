"""Who gets the next free credit: least loaded, first come first served, nothing leaked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node_agent.errors import AcquireTimeout, LinkClosed, Unavailable
from node_agent.net import IncomingCall, Link, RawAnswer
from node_agent.peers.directory import Directory, Lease
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.links import REQUEST_ID, until
from tests.support.peer_nodes import Meadow, PeerNode, identity_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.identity import NodeIdentity, PeerIdentity

GRANTS = ["/peer/incoming"]


class Stage:
    """``ra`` asks; ``ca1`` and ``ca2`` answer when ``gate`` is open, two at a time per link."""

    def __init__(self, meadow: Meadow) -> None:
        self.meadow = meadow
        self.gate = asyncio.Event()
        self.arrived: list[str] = []
        self.ra = meadow.node("ra1", {"ca1": GRANTS, "ca2": GRANTS})
        self.cas = [self._ca(name) for name in ("ca1", "ca2")]
        self.directory = self.ra.directory

    def _ca(self, name: str) -> PeerNode:
        ca = self.meadow.node(name, {"ra1": GRANTS})

        async def serve(call: IncomingCall) -> RawAnswer:
            self.arrived.append(call.payload.decode())
            await self.gate.wait()
            return RawAnswer(Status.OK, name.encode())

        ca.dispatcher.handle = serve  # type: ignore[method-assign]
        return ca

    async def link(self, number: int, *, credits: int = 2) -> Link:
        """Return RA's end of a new link dialled by CA ``number``."""
        ca = self.cas[number - 1]
        known = {link.connection_id for link in self.directory.links(ca.node)}
        await self.meadow.link(ca, self.ra, credits=credits)
        (new,) = (link for link in self.directory.links(ca.node) if link.connection_id not in known)
        return new

    async def ask(
        self, text: str = "", *, numbers: tuple[int, ...] = (1,), seconds: float = 5
    ) -> str:
        peers = [self.cas[number - 1].node for number in numbers]
        with await self.directory.acquire(peers, timeout_seconds=seconds) as lease:
            answer = await lease.call(
                "x", text.encode(), request_id=REQUEST_ID, timeout_seconds=seconds
            )
        return answer.payload.decode()

    def asking(self, text: str = "", **options: object) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.ask(text, **options))  # type: ignore[arg-type]

    def check_nothing_leaked(self) -> None:
        entries = [entry for peer in self.directory._peers.values() for entry in peer.values()]
        assert all(entry.promised == 0 for entry in entries)
        assert self.directory.queued == 0
        assert self.directory._lines._lines == {}


def scene(play: Callable[[Stage], Awaitable[None]]) -> None:
    async def perform() -> None:
        async with Meadow() as meadow:
            stage = Stage(meadow)
            await play(stage)
            stage.gate.set()
            await until(lambda: all(link.in_flight == 0 for link in stage.directory.links()))
            stage.check_nothing_leaked()

    run(perform())


def test_nobody_is_admitted_until_roles_say_so() -> None:
    async def play(stage: Stage) -> None:
        closed = Directory(clock=stage.ra.holder.clock)
        link = await stage.link(1)
        assert not closed.add(link)

    scene(play)


def test_requests_spread_over_the_least_loaded_links_of_all_peers() -> None:
    async def play(stage: Stage) -> None:
        links = [await stage.link(1), await stage.link(1), await stage.link(2)]
        tasks = [stage.asking(numbers=(1, 2)) for _ in range(6)]
        await until(lambda: len(stage.arrived) == 6)
        assert [link.in_flight for link in links] == [2, 2, 2]
        stage.gate.set()
        assert sorted(await asyncio.gather(*tasks)) == ["ca1"] * 4 + ["ca2"] * 2

    scene(play)


def test_a_lone_request_keeps_to_one_link_so_that_the_others_grow_idle() -> None:
    async def play(stage: Stage) -> None:
        links = [await stage.link(1), await stage.link(1)]
        stage.gate.set()
        await stage.ask()
        used = [link for link in links if link.last_used_at > link.opened_at]
        before = {link.connection_id: link.last_used_at for link in links}
        for _ in range(5):
            await stage.ask()
        moved = [link for link in links if link.last_used_at > before[link.connection_id]]
        assert moved == used

    scene(play)


def test_who_waits_is_served_in_the_order_of_coming() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        tasks = []
        for number in range(6):
            tasks.append(stage.asking(str(number), numbers=(1,) if number % 2 else (1, 2)))
            await asyncio.sleep(0)
        assert stage.directory.queued == 5
        stage.gate.set()
        await asyncio.gather(*tasks)
        assert stage.arrived == list("012345")

    scene(play)


def test_askers_take_turns_in_the_line() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        peers = [stage.cas[0].node]

        async def bring(asker: NodeIdentity) -> None:
            with await stage.directory.acquire(peers, timeout_seconds=5, asker=asker) as lease:
                text = asker.name.encode()
                await lease.call("test", text, request_id=REQUEST_ID, timeout_seconds=5)

        hostile, honest = identity_of("hostile"), identity_of("honest")
        tasks = [asyncio.create_task(bring(hostile)) for _ in range(20)]
        await until(lambda: stage.directory.queued == 19)
        tasks += [asyncio.create_task(bring(honest)) for _ in range(2)]
        await until(lambda: stage.directory.queued == 21)
        stage.gate.set()
        await asyncio.gather(*tasks)
        assert stage.arrived[:5] == ["hostile", "hostile", "honest", "hostile", "honest"]

    scene(play)


def test_a_new_link_serves_those_that_wait_at_once() -> None:
    async def play(stage: Stage) -> None:
        task = stage.asking(numbers=(1, 2))
        await asyncio.sleep(0)
        assert stage.directory.queued == 1
        await stage.link(2)
        stage.gate.set()
        assert await task == "ca2"

    scene(play)


def test_more_credits_serve_those_that_wait() -> None:
    async def play(stage: Stage) -> None:
        link = await stage.link(1, credits=1)
        tasks = [stage.asking(str(number)) for number in range(3)]
        await until(lambda: len(stage.arrived) == 1)
        (far,) = stage.cas[0].directory.links()
        far.set_credits(3)
        await until(lambda: len(stage.arrived) == 3)
        assert link.in_flight == 3
        stage.gate.set()
        await asyncio.gather(*tasks)

    scene(play)


def test_waiting_ends_at_the_deadline_and_leaves_no_place_behind() -> None:
    async def play(stage: Stage) -> None:
        with pytest.raises(AcquireTimeout, match="ca1"):
            await stage.ask(seconds=0.05)
        assert stage.directory.queued == 0

    scene(play)


def test_a_full_line_answers_at_once_when_to_come_back() -> None:
    async def play(stage: Stage) -> None:
        stage.directory._max_queued = 2
        tasks = [stage.asking() for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await stage.ask()
        assert refused.value.retry_after_seconds > 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    scene(play)


def test_what_one_peer_brings_leaves_places_in_the_line_for_the_others() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        stage.directory._max_queued = 8
        flooding, honest = identity_of("tenant1"), identity_of("tenant2")
        held = stage.asking("held")
        await until(lambda: stage.arrived)
        peers = [stage.cas[0].node]

        def line_up(asker: NodeIdentity) -> asyncio.Task[Lease]:
            waiting = stage.directory.acquire(peers, timeout_seconds=5, asker=asker)
            return asyncio.ensure_future(waiting)

        waiting = [line_up(flooding), line_up(flooding)]
        await until(lambda: stage.directory.queued == 2)
        with pytest.raises(Unavailable):
            await line_up(flooding)
        waiting.append(line_up(honest))
        await until(lambda: stage.directory.queued == 3)
        waiting[0].cancel()
        await until(lambda: stage.directory.queued == 2)
        waiting.append(line_up(flooding))
        await until(lambda: stage.directory.queued == 3)
        for task in waiting:
            task.cancel()
        stage.gate.set()
        await asyncio.gather(held, *waiting, return_exceptions=True)

    scene(play)


def test_the_peer_learns_how_many_wait_and_that_nobody_does_any_more() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        (far,) = stage.cas[0].directory.links()
        notified: list[int] = []
        node = stage.cas[0].node
        stage.directory.observe_waiting(lambda: notified.append(stage.directory.waiting_for(node)))
        tasks = [stage.asking() for _ in range(8)]
        await until(lambda: far.peer_queued == 7)
        stage.gate.set()
        await asyncio.gather(*tasks)
        await until(lambda: far.peer_queued == 0)
        assert notified[0] == 7
        assert notified[-1] == 0

    scene(play)


@pytest.mark.parametrize("turns", range(12))
def test_cancelling_at_any_moment_frees_place_and_credit(turns: int) -> None:
    """Cancelled while waiting in line, when just served, while sending, or while receiving."""

    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        first, second, third = stage.asking("1"), stage.asking("2"), stage.asking("3")
        await until(lambda: stage.arrived)
        stage.gate.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        assert await third == await first == "ca1"
        await asyncio.gather(second, return_exceptions=True)

    scene(play)


def test_cancelling_while_the_answer_is_awaited_gives_the_credit_to_the_next() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        first = stage.asking("1")
        await until(lambda: stage.arrived == ["1"])
        second = stage.asking("2")
        await asyncio.sleep(0)
        first.cancel()
        await until(lambda: stage.arrived == ["1", "2"])
        stage.gate.set()
        assert await second == "ca1"

    scene(play)


def test_a_lease_that_is_never_used_gives_its_credit_back() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1, credits=1)
        peers = [stage.cas[0].node]
        lease: Lease = await stage.directory.acquire(peers, timeout_seconds=1)
        task = stage.asking()
        await asyncio.sleep(0)
        assert stage.directory.queued == 1
        with lease:
            pass
        stage.gate.set()
        assert await task == "ca1"

    scene(play)


def test_a_lost_link_fails_its_calls_and_is_gone_from_the_directory() -> None:
    async def play(stage: Stage) -> None:
        link = await stage.link(1)
        seen: list[tuple[PeerIdentity, bool]] = []
        stage.directory.observe(lambda peer, is_connected: seen.append((peer, is_connected)))
        task = stage.asking()
        await until(lambda: stage.arrived)
        link.abort()
        with pytest.raises(LinkClosed):
            await task
        assert stage.directory.links() == []
        assert not stage.directory.is_connected(stage.cas[0].node)
        assert seen == [(link.peer, False)]
        (gone,) = stage.directory.snapshot()
        assert gone.state == "down"
        assert gone.last_seen is not None

    scene(play)


def test_a_draining_link_gets_no_new_request() -> None:
    async def play(stage: Stage) -> None:
        old = await stage.link(1)
        first = stage.asking("1")
        await until(lambda: stage.arrived)
        (far,) = stage.cas[0].directory.links()
        drain = asyncio.ensure_future(far.drain(5))
        await until(lambda: old.state.value == "draining")
        await stage.link(1)
        second = stage.asking("2")
        await until(lambda: len(stage.arrived) == 2)
        assert old.in_flight == 1
        stage.gate.set()
        await asyncio.gather(first, second, drain)

    scene(play)


def test_a_peer_that_cant_serve_is_asked_last_for_a_while() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1)
        await stage.link(2)
        stage.gate.set()
        stage.directory.avoid(stage.cas[0].node, 60)
        assert {await stage.ask(numbers=(1, 2)) for _ in range(5)} == {"ca2"}
        assert await stage.ask(numbers=(1,)) == "ca1"
        stage.directory.avoid(stage.cas[0].node, -1)
        stage.directory.avoid(stage.cas[1].node, 60)
        assert {await stage.ask(numbers=(1, 2)) for _ in range(5)} == {"ca1"}

    scene(play)


def test_the_snapshot_shows_peers_that_dialled_us_with_their_figures() -> None:
    async def play(stage: Stage) -> None:
        await stage.link(1)
        await stage.link(1)
        task = stage.asking()
        await until(lambda: stage.arrived)
        await until(lambda: all(link.round_trip_seconds for link in stage.directory.links()))
        (peer,) = stage.directory.snapshot()
        assert (peer.peer, peer.state, peer.connections) == (stage.cas[0].node.uri, "up", 2)
        assert (peer.in_flight, peer.serving) == (1, 0)
        assert peer.round_trip_ms is not None
        assert repr(stage.directory) == "<Directory peers=1 links=2 queued=0>"
        assert stage.cas[0].directory.snapshot() == ()  # it dialled; that is its connector's
        stage.gate.set()
        await task

    scene(play)


def test_many_random_calls_losses_and_cancellations_leak_nothing() -> None:
    async def play(stage: Stage) -> None:
        import random

        chance = random.Random(7)
        stage.gate.set()
        links = [await stage.link(1), await stage.link(2)]
        tasks = []
        for step in range(300):
            task = stage.asking(str(step), numbers=chance.choice([(1,), (2,), (1, 2)]), seconds=3)
            tasks.append(task)
            if chance.random() < 0.3:
                asyncio.get_running_loop().call_later(chance.random() * 0.01, task.cancel)
            if step % 50 == 25:
                links.pop(0).abort()
                links.append(await stage.link(1 + step % 100 // 50))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.003)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        good = [result for result in results if isinstance(result, str)]
        assert len(good) > 100
        allowed = (str, asyncio.CancelledError, LinkClosed, AcquireTimeout)
        assert all(isinstance(result, allowed) for result in results), set(map(repr, results))

    scene(play)
