"""What a pool decides, situation by situation, and over simulated days."""

from __future__ import annotations

import math

import pytest

from node_agent.errors import ConfigError
from node_agent.objects import PeerConnectorSpec
from node_agent.pool.plan import (
    Close,
    Dial,
    Drain,
    PoolState,
    Reason,
    SlotPhase,
    SlotView,
    WakeAt,
    next_dial_at,
    plan,
)
from node_agent.pool.settings import PoolSettings
from tests.support.simulated_pool import NetworkState, SimulatedPool

NOW = 1000.0
DAY = 86400.0


def open_slot(
    slot_id: int, *, age: float = 10, idle: float | None = 0, generation: int = 0
) -> SlotView:
    """Return an open slot that is ``age`` old and has been idle for ``idle`` (None: in use)."""
    idle_since = None if idle is None else NOW - idle
    return SlotView(slot_id, SlotPhase.OPEN, 0, NOW - age, idle_since)


def dialing(slot_id: int, *, age: float = 0, replaces: int | None = None) -> SlotView:
    return SlotView(slot_id, SlotPhase.DIALING, 0, NOW - age, replaces=replaces)


def acts(state: PoolState, **settings: object) -> list[object]:
    """Return the actions without the alarm."""
    chosen = PoolSettings(**settings)  # type: ignore[arg-type]
    return [action for action in plan(state, chosen, NOW) if not isinstance(action, WakeAt)]


def test_an_empty_pool_dials_to_its_minimum_at_once() -> None:
    assert acts(PoolState(), min_connections=3, max_connections=5) == [Dial(), Dial(), Dial()]


def test_dials_in_progress_count_toward_the_minimum() -> None:
    state = PoolState(slots=(dialing(1), open_slot(2)))
    assert acts(state, min_connections=3, max_connections=5) == [Dial()]


def test_a_pool_at_its_minimum_with_nothing_to_do_rests() -> None:
    assert acts(PoolState(slots=(open_slot(1, idle=1000),))) == []


def test_waiting_requests_grow_the_pool_by_what_they_need_at_most_doubling() -> None:
    one, two = (open_slot(1, idle=None),), (open_slot(1, idle=None), open_slot(2, idle=None))
    limits = {"max_connections": 8, "max_parallel_requests": 80}
    assert acts(PoolState(slots=one, queued=1), **limits) == [Dial()]
    assert acts(PoolState(slots=one, queued=100), **limits) == [Dial()]
    assert acts(PoolState(slots=two, queued=100), **limits) == [Dial(), Dial()]
    assert acts(PoolState(slots=two, queued=5), **limits) == [Dial()]


def test_growth_waits_for_the_dials_it_started() -> None:
    state = PoolState(slots=(open_slot(1, idle=None), dialing(2)), queued=100)
    assert acts(state) == []


def test_a_full_pool_doesnt_grow() -> None:
    slots = tuple(open_slot(number, idle=None) for number in range(4))
    assert acts(PoolState(slots=slots, queued=9)) == []


def test_idle_links_above_the_minimum_are_drained_longest_idle_first() -> None:
    slots = (open_slot(1, idle=70), open_slot(2, idle=90), open_slot(3, idle=10))
    assert acts(PoolState(slots=slots), min_connections=2) == [Drain(2, Reason.IDLE)]
    assert acts(PoolState(slots=slots)) == [Drain(2, Reason.IDLE), Drain(1, Reason.IDLE)]


def test_nothing_shrinks_while_requests_wait() -> None:
    slots = (open_slot(1, idle=70), open_slot(2, idle=90))
    assert acts(PoolState(slots=slots, queued=1), max_connections=2) == []


def test_an_old_link_is_replaced_first_and_drained_when_the_new_one_stands() -> None:
    old = open_slot(1, age=4000, idle=None)
    assert acts(PoolState(slots=(old,))) == [Dial(replaces=1)]
    assert acts(PoolState(slots=(old, dialing(2, replaces=1)))) == []
    new = SlotView(2, SlotPhase.OPEN, 0, NOW, NOW, replaces=1)
    assert acts(PoolState(slots=(old, new))) == [Drain(1, Reason.REPLACED)]


def test_old_links_are_replaced_one_at_a_time() -> None:
    slots = (open_slot(1, age=5000, idle=None), open_slot(2, age=4000, idle=None))
    assert acts(PoolState(slots=slots), min_connections=2) == [Dial(replaces=1)]


def test_an_old_link_in_a_pool_of_fixed_size_may_be_replaced_beyond_the_maximum() -> None:
    state = PoolState(slots=(open_slot(1, age=4000),))
    assert acts(state, max_connections=1) == [Dial(replaces=1)]


def test_an_old_idle_link_above_the_minimum_is_drained_without_replacement() -> None:
    state = PoolState(slots=(open_slot(1), open_slot(2, age=4000, idle=5)))
    assert acts(state) == [Drain(2, Reason.EXPIRED)]


def test_in_a_full_pool_above_its_minimum_an_old_link_makes_room_first() -> None:
    state = PoolState(slots=(open_slot(1, idle=None), open_slot(2, age=4000, idle=None)))
    assert acts(state, max_connections=2) == [Drain(2, Reason.EXPIRED)]


def test_links_of_an_older_generation_are_replaced_like_old_ones() -> None:
    state = PoolState(slots=(open_slot(1, idle=None),), generation=1)
    assert acts(state) == [Dial(replaces=1)]


def test_a_dial_of_an_older_generation_is_given_up_and_begun_anew() -> None:
    assert acts(PoolState(slots=(dialing(1),), generation=1)) == [
        Close(1, Reason.EXPIRED),
        Dial(),
    ]


def test_a_replacement_that_was_lost_leaves_the_old_link_in_place() -> None:
    assert acts(PoolState(slots=(open_slot(1, age=4000),), failures=1)) == [Dial(replaces=1)]


def test_switching_off_drains_what_is_open_and_gives_up_what_is_dialled() -> None:
    draining = SlotView(3, SlotPhase.DRAINING, 0, NOW)
    state = PoolState(slots=(open_slot(1), dialing(2), draining), queued=5)
    expected = [Drain(1, Reason.DISABLED), Close(2, Reason.DISABLED)]
    assert acts(state, enabled=False) == expected


def test_a_lower_maximum_drains_the_most_dispensable_links_and_closes_dials() -> None:
    slots = (open_slot(1, idle=None), open_slot(2, idle=5), open_slot(3, idle=9), dialing(4))
    assert acts(PoolState(slots=slots), max_connections=1) == [
        Drain(3, Reason.SURPLUS),
        Drain(2, Reason.SURPLUS),
        Close(4, Reason.SURPLUS),
    ]


def test_draining_links_dont_count() -> None:
    draining = SlotView(1, SlotPhase.DRAINING, 0, NOW)
    assert acts(PoolState(slots=(draining,)), max_connections=1) == [Dial()]


def test_after_a_failure_the_next_dial_waits_and_the_pool_asks_to_be_woken() -> None:
    state = PoolState(failures=3, last_dial_at=NOW, jitter=0.5, failing_since=NOW)
    assert plan(state, PoolSettings(), NOW) == [WakeAt(NOW + 0.2)]
    assert Dial() in plan(state, PoolSettings(), NOW + 0.2)


def test_after_a_failure_there_is_one_fresh_dial_at_a_time() -> None:
    failing = PoolState(failures=1, queued=50)
    assert acts(failing, min_connections=3) == [Dial()]
    assert acts(PoolState(slots=(dialing(1),), failures=1), min_connections=3) == []


def test_a_slow_dial_doesnt_hold_up_the_next_and_only_the_oldest_is_left_to_finish() -> None:
    assert acts(PoolState(slots=(dialing(1, age=2),))) == [Dial()]
    slots = (dialing(1, age=2), dialing(2, age=4))
    assert acts(PoolState(slots=slots)) == [Close(1, Reason.SLOW), Dial()]
    assert acts(PoolState(slots=(dialing(1, age=10),))) == [Close(1, Reason.SLOW), Dial()]


@pytest.mark.parametrize("failures", [1, 2, 5, 50, 5000])
@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.999])
def test_the_pause_has_full_jitter_below_a_doubling_ceiling(failures: int, jitter: float) -> None:
    state = PoolState(failures=failures, last_dial_at=NOW, jitter=jitter, failing_since=NOW)
    pause = next_dial_at(state, PoolSettings(), NOW) - NOW
    assert pause == pytest.approx(max(0.05, jitter * min(1.5, 0.1 * 2 ** min(failures - 1, 20))))


def test_the_cap_grows_with_a_long_outage_but_not_while_requests_wait() -> None:
    def longest(outage: float, queued: int = 0) -> float:
        state = PoolState(
            failures=99, last_dial_at=NOW, jitter=1.0, failing_since=NOW - outage, queued=queued
        )
        return next_dial_at(state, PoolSettings(), NOW) - NOW

    assert longest(60) == longest(600) == 1.5
    assert longest(3600) == 9
    assert longest(30 * DAY) == 30
    assert longest(30 * DAY, queued=1) == 1.5


def test_settings_that_dont_fit_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"peer_connectors\.ra1"):
        PoolSettings.from_spec(
            PeerConnectorSpec(name="ra1", address="h:1", peer="x", min_connections=5)
        )
    with pytest.raises(ConfigError, match="max_parallel_requests"):
        PoolSettings(max_parallel_requests=3)


def test_a_quiet_day_replaces_the_link_each_hour_and_never_has_none() -> None:
    pool = SimulatedPool(PoolSettings())
    pool.run_for(1)
    for _ in range(24 * 60):
        pool.run_for(60)
        assert len(pool.open) >= 1
    assert 24 <= pool.drained[Reason.REPLACED] <= 27
    assert len(pool.table) <= 2


def test_a_burst_grows_the_pool_and_quiet_shrinks_it_again() -> None:
    pool = SimulatedPool(PoolSettings())
    pool.run_for(1)
    pool.queued = 40
    pool.run_for(1)
    assert len(pool.open) == 4
    pool.queued = 0
    pool.run_for(50)
    assert len(pool.open) == 4
    pool.run_for(20)
    assert len(pool.open) == 1


def test_use_restarts_the_idle_time() -> None:
    pool = SimulatedPool(PoolSettings(max_connections=2))
    pool.queued = 40
    pool.run_for(1)
    pool.queued = 0
    for _ in range(10):
        pool.run_for(50)
        for slot in pool.open:
            pool.set_busy(slot, True)
            pool.set_busy(slot, False)
    assert len(pool.open) == 2


@pytest.mark.parametrize("cut", [NetworkState.REFUSING, NetworkState.SILENT])
@pytest.mark.parametrize("outage_seconds", [0.5, 3, 11.2, 60, 599])
@pytest.mark.parametrize("seed", range(5))
def test_a_healed_partition_has_a_link_again_within_two_seconds(
    cut: NetworkState, outage_seconds: float, seed: int
) -> None:
    pool = SimulatedPool(PoolSettings(), seed=seed, dial_seconds=0.2)
    pool.run_for(100)
    pool.network = cut
    for slot in pool.open:
        pool.lose(slot)
    pool.run_for(outage_seconds)
    assert not pool.open
    pool.network = NetworkState.HEALTHY
    pool.run_for(2)
    assert pool.open


def test_a_long_silent_outage_costs_few_dials() -> None:
    pool = SimulatedPool(PoolSettings())
    pool.network = NetworkState.SILENT
    pool.run_for(600)
    young = len(pool.dials_started)
    assert 300 <= young <= 1500
    pool.run_for(DAY)
    assert len(pool.dials_started) - young < 30_000


def test_a_peer_that_accepts_and_throws_out_is_not_hammered() -> None:
    pool = SimulatedPool(PoolSettings(), dial_seconds=0.001)
    for _ in range(2000):
        pool.run_for(0.01)
        for slot in pool.open:
            pool.lose(slot)
    assert len(pool.dials_started) < 60  # in 20 seconds


def test_ages_are_spread_so_that_links_opened_together_dont_end_together() -> None:
    pool = SimulatedPool(PoolSettings(min_connections=8, max_connections=8))
    pool.run_for(1)
    shares = {slot.age_share for slot in pool.open}
    assert len(shares) == 8
    assert min(shares) >= 0.9
    assert not math.isclose(min(shares), max(shares))
