"""Publishers are compared as often as they say, and a peer that was away as soon as it is back."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.functions.verification_schedule import VerificationSchedule
from node_agent.objects import PublisherSpec


def spec(**fields: Any) -> PublisherSpec:
    peer = "spiffe://test.example/node/va1"
    return PublisherSpec(name="va1", peer=peer, authorities=("issuing",), **fields)


def due_times(specification: PublisherSpec, *, until: int, up: range | None = None) -> list[int]:
    """Return at which of the looks, one each second from 0 on, the publisher is due."""
    schedule = VerificationSchedule()
    return [
        second
        for second in range(until)
        if schedule.is_due(specification, is_up=up is None or second in up, now=float(second))
    ]


@pytest.mark.parametrize(
    ("seconds", "times"), [(100, [60, 160, 260]), (20, [20, 40, 60]), (3600, [60])]
)
def test_the_first_time_is_after_a_minute_or_sooner_then_each_interval(
    seconds: int, times: list[int]
) -> None:
    assert due_times(spec(verify_seconds=seconds), until=300)[:3] == times


def test_a_peer_that_was_away_is_compared_when_it_is_back() -> None:
    assert due_times(spec(verify_seconds=100), until=300, up=range(90, 300)) == [90, 190, 290]


def test_nothing_is_compared_that_nobody_wants_compared() -> None:
    assert due_times(spec(verify_seconds=0), until=10_000) == []


def test_a_shorter_interval_takes_effect_at_once() -> None:
    schedule = VerificationSchedule()
    assert schedule.is_due(spec(verify_seconds=3600), is_up=True, now=0.0) is False
    assert schedule.is_due(spec(verify_seconds=3600), is_up=True, now=60.0) is True
    assert schedule.is_due(spec(verify_seconds=5), is_up=True, now=70.0) is False
    assert schedule.is_due(spec(verify_seconds=5), is_up=True, now=75.0) is True
