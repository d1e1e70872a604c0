"""Windows, budgets, grants and the flood guard."""

from __future__ import annotations

import pytest

from node_agent.errors import RemoteProtocolError
from node_agent.wire.codes import Code
from node_agent.wire.window import (
    CreditGrant,
    FloodGuard,
    MessageBudget,
    ReceiveWindow,
    SendWindow,
)


def test_send_window_gives_what_it_has() -> None:
    window = SendWindow(10)
    assert [window.take(7), window.take(7), window.take(7)] == [7, 3, 0]
    window.extend(5)
    assert window.take(9) == 5


def test_send_window_refuses_to_grow_beyond_its_bound() -> None:
    window = SendWindow(2**31 - 1)
    with pytest.raises(RemoteProtocolError) as caught:
        window.extend(1)
    assert caught.value.code == Code.FLOW_CONTROL


def test_receive_window_gives_back_half_at_a_time() -> None:
    window = ReceiveWindow(100)
    window.received(100)
    assert window.consumed(49) == 0
    assert window.consumed(1) == 50
    assert window.available == 50
    assert window.consumed(50) == 50


def test_receive_window_refuses_more_than_it_holds() -> None:
    window = ReceiveWindow(100)
    window.received(60)
    with pytest.raises(RemoteProtocolError) as caught:
        window.received(41)
    assert caught.value.code == Code.FLOW_CONTROL
    assert window.available == 40


def test_budget_serves_in_order_and_whole_messages_only() -> None:
    budget = MessageBudget(100)
    assert budget.reserve(1, 60)
    assert not budget.reserve(3, 60)
    assert not budget.reserve(5, 10), "a small one must not overtake the one in line"
    assert budget.release(1) == [3, 5]
    assert budget.waiting == 0


def test_budget_lets_a_message_above_it_through_when_alone() -> None:
    budget = MessageBudget(100)
    assert budget.reserve(1, 500)
    assert not budget.reserve(3, 1)
    assert budget.release(1) == [3]


def test_budget_forgets_who_leaves_the_line() -> None:
    budget = MessageBudget(100)
    budget.reserve(1, 100)
    budget.reserve(3, 100)
    budget.reserve(5, 100)
    assert budget.release(3) == []
    assert budget.release(1) == [5]


def test_leaving_the_head_of_the_line_lets_the_next_one_in() -> None:
    budget = MessageBudget(100)
    budget.reserve(1, 60)
    budget.reserve(3, 90)
    budget.reserve(5, 40)
    assert budget.release(3) == [5]


def test_higher_grant_counts_at_once() -> None:
    grant = CreditGrant(10)
    assert grant.grant(20, b"fence") is False
    assert grant.allowed == 20


def test_lower_grant_counts_once_it_has_been_read() -> None:
    grant = CreditGrant(10)
    assert grant.grant(2, b"first") is True
    assert (grant.current, grant.allowed) == (2, 10)
    assert grant.grant(5, b"second") is True
    grant.acknowledged(b"first")
    assert grant.allowed == 5
    grant.acknowledged(b"unknown")
    grant.acknowledged(b"second")
    assert grant.allowed == 5


def test_flood_guard_lets_a_steady_peer_pass_for_ever() -> None:
    guard = FloodGuard(per_second=10, burst=5)
    for second in range(1000):
        for _ in range(4):
            guard.add(1, float(second))
    assert guard._level == 4


def test_flood_guard_stops_a_burst() -> None:
    guard = FloodGuard(per_second=10, burst=5)
    for _ in range(5):
        guard.add(1, 1.0)
    with pytest.raises(RemoteProtocolError) as caught:
        guard.add(1, 1.0)
    assert caught.value.code == Code.TOO_MUCH
