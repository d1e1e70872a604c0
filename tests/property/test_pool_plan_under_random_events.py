"""Random events against the real plan and slot table: never over, never leaking, never starving."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from node_agent.pool.plan import SlotPhase
from node_agent.pool.settings import PoolSettings
from tests.support.simulated_pool import NetworkState, SimulatedPool

limits = st.tuples(st.integers(1, 5), st.integers(0, 4)).map(lambda pair: (pair[0], sum(pair)))


class PoolLife(RuleBasedStateMachine):
    """SimulatedPool checks the limits after each round; here are the events and the long view."""

    @initialize(limit=limits, seed=st.integers(0, 99), dial_seconds=st.floats(0.001, 1.0))
    def start(self, limit: tuple[int, int], seed: int, dial_seconds: float) -> None:
        chosen = PoolSettings(min_connections=limit[0], max_connections=limit[1])
        self.pool = SimulatedPool(chosen, seed=seed, dial_seconds=dial_seconds)
        self.pool.settle()

    @rule(seconds=st.floats(0, 30) | st.floats(0, 86400))
    def time_passes(self, seconds: float) -> None:
        # Bounded by what can happen in it, so that an example doesn't take minutes.
        ages = self.pool.settings.max_age_seconds * 20
        longest = ages if self.pool.network is NetworkState.HEALTHY else 60
        self.pool.run_for(min(seconds, longest))

    @rule(network=st.sampled_from(NetworkState))
    def network_changes(self, network: NetworkState) -> None:
        self.pool.network = network

    @rule(queued=st.integers(0, 200))
    def demand_changes(self, queued: int) -> None:
        self.pool.queued = queued
        self.pool.settle()

    @precondition(lambda self: self.pool.open)
    @rule(data=st.data())
    def a_link_is_lost(self, data: st.DataObject) -> None:
        self.pool.lose(data.draw(st.sampled_from(self.pool.open)))

    @precondition(lambda self: self.pool.open)
    @rule(data=st.data(), busy=st.booleans())
    def use_changes(self, data: st.DataObject, busy: bool) -> None:
        self.pool.set_busy(data.draw(st.sampled_from(self.pool.open)), busy)

    @rule(limit=limits, enabled=st.booleans(), age=st.sampled_from([5.0, 60.0, 3600.0]))
    def settings_change(self, limit: tuple[int, int], enabled: bool, age: float) -> None:
        self.pool.update(
            replace(
                self.pool.settings,
                min_connections=limit[0],
                max_connections=limit[1],
                enabled=enabled,
                max_age_seconds=age,
            )
        )

    @rule()
    def everything_expires(self) -> None:
        self.pool.expire_all()

    @precondition(lambda self: self.pool.settings.enabled)
    @rule()
    def a_healthy_address_is_dialled_and_the_minimum_reached(self) -> None:
        """Never starves: whatever was before, a healthy address gives a link in two seconds."""
        self.pool.network = NetworkState.HEALTHY
        self.pool.queued = max(1, self.pool.queued)
        self.pool.run_for(1.5 + 2 * self.pool.dial_seconds)
        assert self.pool.open
        self.pool.run_for(20)
        assert len(self.pool.open) >= self.pool.settings.min_connections

    @invariant()
    def every_slot_is_in_a_phase_and_none_leaks(self) -> None:
        if not hasattr(self, "pool"):
            return
        table = self.pool.table
        counted = sum(len(table.in_phase(phase)) for phase in SlotPhase)
        assert counted == len(table)
        assert all((slot.link is None) == (slot.phase is SlotPhase.DIALING) for slot in table)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.busy.clear()
        self.pool.update(replace(self.pool.settings, enabled=False))
        self.pool.run_for(60)
        assert len(self.pool.table) == 0


TestPoolLife = PoolLife.TestCase
TestPoolLife.settings = settings(
    # Shrinking replays simulated days hundreds of times; the failing steps are printed anyway.
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
