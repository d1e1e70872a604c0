"""A pool over real links: what it must survive. The list of situations is asyncpg's and httpcore's;
the decisions themselves are tested in test_plan.py."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from node_agent.config import Address
from node_agent.errors import LinkClosed
from node_agent.net import IncomingCall, Link, RawAnswer
from node_agent.pool import ConnectorPool, PoolSettings
from node_agent.pool.plan import SlotPhase
from node_agent.wire.codes import Status
from tests.support.event_loop import run
from tests.support.flaky_network import FlakyNetwork
from tests.support.links import REQUEST_ID, Ends, until
from tests.support.simulated_pool import NetworkState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Stage:
    """A listener and a pool that dials it."""

    def __init__(self, ends: Ends, network: FlakyNetwork, settings: PoolSettings) -> None:
        self.ends = ends
        self.network = network
        self.up: list[Link] = []
        self.admits = True
        self.waiting = 0
        self.gate = asyncio.Event()
        self.pool = ConnectorPool(
            name="ra1",
            address=ends.address,
            peer=ends.listening.node,
            settings=settings,
            network=network,
            identity=ends.dialling,
            handler=self._serve,
            on_link=self._on_link,
            clock=ends.dialling.clock,
            waiting=lambda: self.waiting,
        )

    async def _serve(self, call: IncomingCall) -> RawAnswer:
        await self.gate.wait()
        return RawAnswer(Status.OK, call.payload)

    def _on_link(self, link: Link) -> bool:
        if not self.admits:
            link.terminate(7, "no role")
            return False
        self.up.append(link)
        return True

    def queue(self, waiting: int) -> None:
        self.waiting = waiting
        self.pool.wake()

    async def until_open(self, count: int) -> None:
        await until(lambda: len(self.pool.links) == count)


@asynccontextmanager
async def staged(**settings: object) -> AsyncIterator[Stage]:
    """A started pool whose listener is up; everything is ended afterward."""
    ends = Ends()
    await ends.listen()
    chosen = PoolSettings(**{"drain_seconds": 2, "settle_seconds": 0.05, **settings})  # type: ignore[arg-type]
    stage = Stage(ends, FlakyNetwork(), chosen)
    stage.pool.start()
    try:
        yield stage
    finally:
        stage.gate.set()
        stage.pool.terminate()
        await stage.pool.close()
        assert stage.network.pending == 0
        assert len(stage.pool.table) == 0
        assert not stage.pool.dialing.tasks
        await ends.close()


def scene(play: Callable[[Stage], object], **settings: object) -> None:
    async def perform() -> None:
        async with staged(**settings) as stage:
            await play(stage)  # type: ignore[misc]

    run(perform())


def test_a_started_pool_reaches_its_minimum_and_hands_out_every_link() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(3)
        assert {link.connection_id for link in stage.up} == {
            link.connection_id for link in stage.pool.links
        }
        assert stage.pool.snapshot().state == "up"

    scene(play, min_connections=3)


def test_a_pool_in_which_nothing_happens_does_not_plan() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        planned = 0
        runner = stage.pool._runner
        replan = runner._replan

        def count() -> float | None:
            nonlocal planned
            planned += 1
            return replan()

        runner._replan = count
        stage.pool.wake()
        for _ in range(200):
            await asyncio.sleep(0)
        # The wake-up, and what the link's first settling may ask for.
        assert 1 <= planned <= 5

    scene(play)


def test_the_repr_shows_connections_and_requests() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(2)
        (link, *_) = stage.ends.accepted
        call = asyncio.ensure_future(link.call("x", b"", request_id=REQUEST_ID, timeout_seconds=5))
        await until(lambda: stage.pool.snapshot().serving == 1)
        assert "up connections=2 (active=1 idle=1) dialing=0 draining=0" in repr(stage.pool)
        assert "in_flight=0 serving=1 queued=0>" in repr(stage.pool)
        stage.gate.set()
        await call

    scene(play, min_connections=2)


def test_demand_of_the_peer_grows_the_pool_and_quiet_shrinks_it() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted)
        stage.ends.accepted[0].announce_queue(100)
        await stage.until_open(4)
        stage.ends.accepted[0].announce_queue(0)
        await stage.until_open(1)
        assert stage.pool.snapshot().state == "up"

    scene(play, idle_seconds=0.2)


def test_requests_that_wait_here_grow_the_pool_too() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        stage.queue(30)
        await stage.until_open(4)
        stage.queue(0)
        assert len(stage.up) == 4

    scene(play)


def test_a_link_in_use_is_not_drained_for_idleness() -> None:
    async def play(stage: Stage) -> None:
        stage.queue(30)
        await stage.until_open(2)
        await until(lambda: len(stage.ends.accepted) == 2)
        calls = [
            asyncio.ensure_future(link.call("x", b"", request_id=REQUEST_ID, timeout_seconds=9))
            for link in stage.ends.accepted
        ]
        await until(lambda: all(link.serving for link in stage.pool.links))
        stage.queue(0)
        await asyncio.sleep(0.5)
        assert len(stage.pool.links) == 2
        stage.gate.set()
        await asyncio.gather(*calls)
        await stage.until_open(1)

    scene(play, max_connections=2, idle_seconds=0.1)


def test_credits_are_shared_among_the_links() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted and stage.ends.accepted[0].available_credits == 48)
        stage.queue(99)
        await stage.until_open(4)
        await until(lambda: {link.available_credits for link in stage.ends.accepted} == {12})
        assert sum(link.available_credits for link in stage.ends.accepted) == 48

    scene(play, max_parallel_requests=48)


def test_a_remote_close_is_made_good() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        first = stage.up[0]
        await until(lambda: stage.ends.accepted)
        stage.ends.accepted[0].abort()
        await until(lambda: len(stage.up) == 2)
        assert first.state.value == "closed"
        assert stage.up[1] in stage.pool.links

    scene(play)


def test_a_peer_that_goes_away_in_peace_is_dialled_again_while_its_streams_finish() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted)
        old = stage.ends.accepted[0]
        call = asyncio.ensure_future(old.call("x", b"", request_id=REQUEST_ID, timeout_seconds=5))
        await until(lambda: stage.pool.snapshot().serving == 1)
        drain = asyncio.ensure_future(old.drain(5))
        await until(lambda: len(stage.up) == 2)
        assert not call.done()
        stage.gate.set()
        assert (await call).status == Status.OK
        await drain

    scene(play)


@pytest.mark.parametrize("cut", [NetworkState.REFUSING, NetworkState.SILENT])
@pytest.mark.parametrize("outage_seconds", [0.3, 2.1])
def test_a_healed_partition_has_a_link_within_two_seconds(
    cut: NetworkState, outage_seconds: float
) -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        stage.network.cut(cut)
        await asyncio.sleep(outage_seconds)
        assert not stage.pool.links
        stage.network.state = NetworkState.HEALTHY
        healed = time.monotonic()
        await stage.until_open(1)
        assert time.monotonic() - healed < 2

    scene(play)


def test_while_the_address_is_dead_the_state_says_so_and_why() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        stage.network.cut(NetworkState.REFUSING)
        await until(lambda: stage.pool.snapshot().failures >= 2)
        down = stage.pool.snapshot()
        assert down.state == "down"
        assert "refuses" in (down.last_error or "")
        assert down.last_seen is not None
        stage.network.state = NetworkState.HEALTHY
        await stage.until_open(1)
        assert stage.pool.snapshot().last_error is None

    scene(play)


def test_a_peer_that_isnt_admitted_is_not_hammered() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        stage.admits = False
        stage.up[0].abort()
        await asyncio.sleep(1.5)
        assert stage.network.dials < 15
        assert stage.pool.snapshot().state == "down"
        assert "no role" in (stage.pool.snapshot().last_error or "")
        stage.admits = True
        await stage.until_open(1)

    scene(play, settle_seconds=5)


def test_expire_all_replaces_every_link_and_never_has_none() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(2)
        before = set(stage.pool.links)
        fewest = 2
        stage.pool.expire_all()

        def renewed() -> bool:
            nonlocal fewest
            fewest = min(fewest, len(stage.pool.links))
            return not before & set(stage.pool.links) and len(stage.pool.links) == 2

        await until(renewed)
        assert fewest == 2

    scene(play, min_connections=2, max_connections=2)


def test_links_are_replaced_at_their_maximum_age_without_losing_a_request() -> None:
    async def play(stage: Stage) -> None:
        stage.gate.set()
        await stage.until_open(1)
        answered = 0
        while len(stage.up) < 4:
            open_links = [link for link in stage.ends.accepted if link.state.value == "open"]
            try:
                await open_links[-1].call("x", b"", request_id=REQUEST_ID, timeout_seconds=5)
                answered += 1
            except LinkClosed:  # a GOAWAY was on its way: the caller takes another link
                await asyncio.sleep(0)
        assert answered > 10

    scene(play, max_age_seconds=0.3)


def test_switching_off_drains_and_switching_on_dials_again() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(2)
        stage.pool.update(replace(stage.pool.settings, enabled=False))
        await until(lambda: len(stage.pool.table) == 0)
        assert stage.pool.snapshot().state == "disabled"
        assert all(link.state.value == "closed" for link in stage.up)
        stage.pool.update(replace(stage.pool.settings, enabled=True))
        await stage.until_open(2)

    scene(play, min_connections=2)


def test_switching_off_during_a_dial_leaves_nothing() -> None:
    async def play(stage: Stage) -> None:
        stage.network.state = NetworkState.SILENT
        await until(lambda: stage.network.pending == 1)
        stage.pool.update(replace(stage.pool.settings, enabled=False))
        await until(lambda: stage.network.pending == 0 and len(stage.pool.table) == 0)
        assert stage.pool.links == []

    scene(play)


def test_another_address_moves_every_link_there() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        first = stage.pool.links[0]
        other = Address("localhost", stage.ends.address.port)
        stage.pool.update(stage.pool.settings, address=other)
        await until(lambda: stage.pool.links and first not in stage.pool.links)
        assert stage.pool.snapshot().address == str(other)

    scene(play)


def test_closing_waits_for_requests_that_are_under_way() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted)
        call = asyncio.ensure_future(
            stage.ends.accepted[0].call("x", b"y", request_id=REQUEST_ID, timeout_seconds=5)
        )
        await until(lambda: stage.pool.snapshot().serving == 1)
        closing = asyncio.ensure_future(stage.pool.close())
        await until(lambda: stage.pool.table.in_phase(SlotPhase.DRAINING))
        assert not closing.done()
        stage.gate.set()
        assert (await call).payload == b"y"
        await closing

    scene(play)


def test_closing_cuts_what_outlasts_the_drain_time() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted)
        call = asyncio.ensure_future(
            stage.ends.accepted[0].call("x", b"", request_id=REQUEST_ID, timeout_seconds=9)
        )
        await until(lambda: stage.pool.snapshot().serving == 1)
        await asyncio.wait_for(stage.pool.close(), 3)
        with pytest.raises(LinkClosed):
            await call

    scene(play, drain_seconds=0.2)


def test_cancelling_the_close_cuts_everything_at_once() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        await until(lambda: stage.ends.accepted)
        call = asyncio.ensure_future(
            stage.ends.accepted[0].call("x", b"", request_id=REQUEST_ID, timeout_seconds=9)
        )
        await until(lambda: stage.pool.snapshot().serving == 1)
        closing = asyncio.ensure_future(stage.pool.close())
        await until(lambda: stage.pool.table.in_phase(SlotPhase.DRAINING))
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(LinkClosed):
            await call
        await until(lambda: len(stage.pool.table) == 0)

    scene(play, drain_seconds=30)


@pytest.mark.parametrize("turns", range(0, 60, 3))
def test_closing_at_any_moment_of_a_dial_leaves_no_link_and_no_slot(turns: int) -> None:
    """Dial, TLS, Hello and registration each take some turns of the loop; close falls into all."""

    async def play(stage: Stage) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        stage.pool.terminate()
        await stage.pool.close()
        assert len(stage.pool.table) == 0
        await until(lambda: all(link.state.value == "closed" for link in stage.ends.accepted))

    scene(play)


def test_a_dial_that_meets_a_defect_is_a_failed_dial_and_not_the_end() -> None:
    async def play(stage: Stage) -> None:
        await stage.until_open(1)
        real = FlakyNetwork.dial

        async def broken(self: FlakyNetwork, *args: object, **options: object) -> Link:
            FlakyNetwork.dial = real  # type: ignore[method-assign]
            raise KeyError("defect")

        FlakyNetwork.dial = broken  # type: ignore[method-assign]
        stage.up[0].abort()
        await until(lambda: len(stage.up) == 2)
        assert FlakyNetwork.dial is real, "the defect wasn't met"

    scene(play)


def test_a_dial_that_is_given_up_before_its_first_step_leaves_nothing() -> None:
    async def play(stage: Stage) -> None:
        for _ in range(10):
            if stage.pool.dialing.tasks:
                break
            await asyncio.sleep(0)
        stage.pool.terminate()
        assert stage.network.dials == 0
        await stage.pool.close()
        assert not stage.pool.dialing.tasks

    scene(play)
