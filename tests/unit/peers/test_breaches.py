"""What ended by a peer's own fault is audited, and can't be used to fill the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from node_agent.errors import StoreError
from node_agent.identity import PeerIdentity
from node_agent.peers.breaches import BreachLog
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.peer_nodes import identity_of

if TYPE_CHECKING:
    from node_agent.store.records import AuditRecord

RA = PeerIdentity(identity_of("ra1"), "CN=x", 1, "a" * 64, "b" * 64)
OTHER = PeerIdentity(identity_of("ra2"), "CN=x", 2, "c" * 64, "d" * 64)


def test_the_same_breach_is_written_once_a_minute_with_how_often_it_was() -> None:
    async def scene() -> None:
        clock = ManualClock()
        written: list[AuditRecord] = []

        async def audit(record: AuditRecord) -> None:
            written.append(record)

        breaches = BreachLog(audit, clock)
        for _ in range(5):
            breaches.note(RA, "too_much: pings")
        breaches.note(RA, "protocol: garbage")
        breaches.note(OTHER, "too_much: pings")
        await breaches.close()
        assert [(r.chain, r.reason) for r in written] == [
            ("ra1", "too_much: pings"),
            ("ra1", "protocol: garbage"),
            ("ra2", "too_much: pings"),
        ]
        assert all(r.action == "peer.link" and not r.allowed for r in written)
        clock.advance(61)
        breaches.note(RA, "too_much: pings")
        await breaches.close()
        assert written[-1].detail["unwritten_before"] == "4"

    run(scene())


def test_numbers_that_a_peer_chooses_make_no_further_entries() -> None:
    async def scene() -> None:
        clock = ManualClock()
        written: list[AuditRecord] = []

        async def audit(record: AuditRecord) -> None:
            written.append(record)

        breaches = BreachLog(audit, clock)
        for number in range(50):
            breaches.note(RA, f"protocol: stream {number}")
        clock.advance(61)
        breaches.note(RA, "protocol: stream 50")
        await breaches.close()
        assert [record.reason for record in written] == [
            "protocol: stream 0",
            "protocol: stream 50",
        ]
        assert written[-1].detail["unwritten_before"] == "49"

    run(scene())


def test_what_is_remembered_of_peers_is_bounded() -> None:
    async def scene() -> None:
        async def audit(record: AuditRecord) -> None:
            return

        breaches = BreachLog(audit, ManualClock())
        for number in range(1100):
            breaches.note(PeerIdentity.named(identity_of(f"ra{number}")), "protocol: garbage")
        assert len(breaches._repeats) <= 1000
        await breaches.close()

    run(scene())


def test_a_full_disk_ends_nothing() -> None:
    async def scene() -> None:
        refused: list[AuditRecord] = []

        async def audit(record: AuditRecord) -> None:
            refused.append(record)
            raise StoreError("the disk is full")

        breaches = BreachLog(audit, ManualClock())
        breaches.note(RA, "protocol: garbage")
        breaches.note(OTHER, "protocol: garbage")
        with capture_logs() as logged:
            await breaches.close()
        assert len(refused) == 2
        assert [entry["reason"] for entry in logged] == ["the disk is full"] * 2

    run(scene())
