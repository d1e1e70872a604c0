"""Denials of a peer that floods are held back; those of a peer with a wrong role are not."""

from __future__ import annotations

import pytest

from node_agent.peers.restraint import Restraint
from tests.support.clock import ManualClock
from tests.support.peer_nodes import identity_of

RA, OTHER = identity_of("ra1"), identity_of("ra2")


def test_two_hundred_at_once_are_answered_at_once() -> None:
    restraint = Restraint(ManualClock())
    assert {restraint.after_denial(RA, RA) for _ in range(200)} == {0.0}
    assert restraint.after_denial(RA, RA) > 0
    assert restraint.after_denial(OTHER, OTHER) == 0.0


def test_a_flood_waits_a_second_for_each_and_no_longer() -> None:
    restraint = Restraint(ManualClock())
    assert max(restraint.after_denial(RA, RA) for _ in range(5000)) == pytest.approx(1.0)


def test_fifty_a_second_go_on_unhindered_and_quiet_forgives() -> None:
    clock = ManualClock()
    restraint = Restraint(clock)
    for _ in range(1000):
        clock.advance(0.02)
        assert restraint.after_denial(RA, RA) == 0.0
    for _ in range(1000):
        restraint.after_denial(RA, RA)
    clock.advance(5)
    assert restraint.after_denial(RA, RA) == 0.0


def test_what_a_proxy_brings_is_counted_by_origin() -> None:
    """A tenant that is denied holds up neither the proxy's others nor itself elsewhere."""
    restraint = Restraint(ManualClock())
    proxy, tenant = identity_of("proxy1"), identity_of("tenant1")
    for _ in range(300):
        restraint.after_denial(proxy, tenant)
    assert restraint.after_denial(proxy, tenant) > 0
    assert restraint.after_denial(proxy, OTHER) == 0.0
    assert restraint.after_denial(proxy, proxy) == 0.0
    assert restraint.after_denial(identity_of("proxy2"), tenant) == 0.0


def test_peers_are_not_remembered_without_end() -> None:
    restraint = Restraint(ManualClock())
    for number in range(10_001):
        restraint.after_denial(RA, identity_of(f"ra{number}"))
    assert len(restraint._counts) <= 10_000
