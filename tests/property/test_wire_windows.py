"""Windows never promise more than they hold, never lose a byte, and never stand still for ever."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from node_agent.wire.window import CreditGrant, MessageBudget, ReceiveWindow, SendWindow


@given(st.integers(1, 10_000), st.lists(st.integers(1, 5_000), max_size=200))
def test_sender_and_receiver_never_disagree(size: int, wanted: list[int]) -> None:
    sender, receiver = SendWindow(size), ReceiveWindow(size)
    unread = 0
    for want in wanted:
        taken = sender.take(want)
        receiver.received(taken)
        unread += taken
        given_back = receiver.consumed(unread)
        unread = 0
        if given_back:
            sender.extend(given_back)
        assert sender.available == receiver.available
        assert receiver.available + receiver.due == size
        assert sender.available > 0, "whoever reads everything is never left with a shut window"


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.booleans(), st.integers(1, 150)), max_size=60),
)
def test_budget_is_never_exceeded_and_serves_all(size: int, steps: list[tuple[bool, int]]) -> None:
    budget = MessageBudget(size)
    held: dict[int, int] = {}
    line: deque[tuple[int, int]] = deque()

    def release(stream: int) -> None:
        held.pop(stream, None)
        for served in budget.release(stream):
            expected, need = line.popleft()
            assert served == expected, "first come, first served"
            held[served] = need

    for number, (is_reserve, need) in enumerate(steps):
        if is_reserve:
            if budget.reserve(number, need):
                held[number] = need
            else:
                line.append((number, need))
        elif held:
            release(next(iter(held)))
        assert sum(held.values()) <= size or len(held) == 1
        assert held or not line, "nobody waits while nobody holds"
    while held:
        release(next(iter(held)))
    assert not line
    assert budget.waiting == 0


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40))
def test_what_was_granted_stays_allowed_until_the_peer_has_read_less(
    first: int, steps: list[tuple[int, bool]]
) -> None:
    grant = CreditGrant(first)
    on_the_way: deque[tuple[bytes | None, int]] = deque()
    peer_believes = first
    for number, (limit, peer_reads) in enumerate(steps):
        fence = number.to_bytes(8, "big")
        has_fence = grant.grant(limit, fence)
        on_the_way.append((fence if has_fence else None, limit))
        if peer_reads:
            while on_the_way:
                fence_read, peer_believes = on_the_way.popleft()
                if fence_read is not None:
                    grant.acknowledged(fence_read)
        assert grant.current == limit
        assert grant.allowed >= max([peer_believes, *(limit for _, limit in on_the_way)])
        if not on_the_way:
            assert grant.allowed == limit
