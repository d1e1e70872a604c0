"""Which CA is looked at next; costs of a round don't grow with the number of CAs."""

from __future__ import annotations

from node_agent.functions.crl_schedule import CrlSchedule


def test_what_is_due_comes_in_the_order_of_time() -> None:
    schedule = CrlSchedule()
    for name, at in (("late", 30.0), ("first", 10.0), ("second", 20.0)):
        schedule.put(name, at)
    assert schedule.take(5.0) is None
    assert schedule.seconds_until_next(5.0) == 5.0
    assert [schedule.take(25.0) for _ in range(3)] == ["first", "second", None]
    assert schedule.seconds_until_next(25.0) == 5.0


def test_a_new_time_replaces_the_old_one() -> None:
    schedule = CrlSchedule()
    schedule.put("ca", 10.0)
    schedule.put("ca", 50.0)
    assert schedule.take(20.0) is None
    assert schedule.take(50.0) == "ca"
    assert len(schedule) == 0


def test_the_urgent_one_does_not_wait_behind_thousands_that_are_due() -> None:
    schedule = CrlSchedule()
    for number in range(10_000):
        schedule.put(f"ca-{number}", 0.0)
    schedule.hurry("revoked")
    assert schedule.seconds_until_next(0.0) == 0.0
    assert schedule.take(0.0) == "revoked"
    assert len(schedule) == 10_000


def test_a_cleared_schedule_keeps_what_is_urgent() -> None:
    schedule = CrlSchedule()
    schedule.put("ca", 0.0)
    schedule.hurry("revoked")
    schedule.clear()
    assert [schedule.take(1.0) for _ in range(2)] == ["revoked", None]
    assert schedule.seconds_until_next(1.0) == float("inf")
