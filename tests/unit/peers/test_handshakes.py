"""Failed handshakes are audited with how often they failed, and no flood fills the log."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from node_agent.config import Address
from node_agent.errors import HandshakeError, StoreError
from node_agent.net import NetSettings
from node_agent.peers.handshakes import MOST_SOURCES, QUIET_SECONDS, AuditedNetwork, HandshakeLog
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.peer_nodes import Meadow, identity_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node_agent.store.records import AuditRecord

VA = identity_of("va1")


class Desk:
    """The log, what it wrote, and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.written: list[AuditRecord] = []
        self.log = HandshakeLog(self._audit, self.clock)

    async def minute(self) -> list[AuditRecord]:
        """Return what is written when a minute is over."""
        before = len(self.written)
        await until(lambda: self.clock.sleepers == 1)
        self.clock.advance(QUIET_SECONDS)
        for _ in range(10):
            await asyncio.sleep(0)
        return self.written[before:]

    async def _audit(self, record: AuditRecord) -> None:
        self.written.append(record)


@contextlib.asynccontextmanager
async def a_desk() -> AsyncIterator[Desk]:
    desk = Desk()
    try:
        yield desk
    finally:
        await desk.log.close()


def test_a_source_is_written_at_once_and_then_once_a_minute_with_a_count() -> None:
    async def scene() -> None:
        async with a_desk() as desk:
            for port in range(1000, 6000):
                desk.log.refused(f"203.0.113.9:{port}", "bad certificate")
            await until(lambda: desk.written)
            (first,) = desk.written
            assert (first.action, first.allowed, first.chain) == (
                "peer.handshake",
                False,
                "203.0.113.9",
            )
            assert first.detail == {"source": "203.0.113.9", "direction": "in"}
            (counted,) = await desk.minute()
            assert (counted.detail["times"], counted.reason) == ("4999", "bad certificate")
            assert await desk.minute() == []
            desk.log.refused("203.0.113.9:1", "again")
            await until(lambda: len(desk.written) == 3)

    run(scene())


def test_many_sources_are_one_after_the_first_few() -> None:
    async def scene() -> None:
        async with a_desk() as desk:
            for number in range(10_000):
                remote = f"198.51.{number // 250}.{number % 250}:4711"
                desk.log.refused(remote, "no certificate")
                desk.log.refused(remote, "no certificate")
            await until(lambda: len(desk.written) == MOST_SOURCES + 1)
            assert desk.written[-1].chain == "others"
            counted = await desk.minute()
            assert len(counted) == MOST_SOURCES + 1
            times = sum(int(record.detail["times"]) for record in counted)
            assert times + len(desk.written) - len(counted) == 20_000

    run(scene())


def test_addresses_of_one_ipv6_network_are_one_source() -> None:
    async def scene() -> None:
        async with a_desk() as desk:
            for number in range(50):
                desk.log.refused(f"2001:db8::{number:x}:7443", "no certificate")
            desk.log.refused("::ffff:192.0.2.1:7443", "no certificate")
            await until(lambda: len(desk.written) == 2)
            assert [record.chain for record in desk.written] == ["2001:db8::/64", "192.0.2.1"]

    run(scene())


def test_what_was_counted_is_written_at_the_end() -> None:
    async def scene() -> None:
        desk = Desk()
        desk.log.failed(Address("192.0.2.21", 7443), VA, "x" * 5000)
        desk.log.failed(Address("192.0.2.21", 7443), VA, "x" * 5000)
        await desk.log.close()
        first, last = desk.written
        assert first.chain == "va1 at 192.0.2.21:7443"
        assert first.detail["peer"] == VA.uri
        assert last.detail["times"] == "1"
        assert len(last.reason) == 200

    run(scene())


def test_a_store_that_fails_does_not_stop_it() -> None:
    async def scene() -> None:
        async def audit(record: AuditRecord) -> None:
            raise StoreError("the disk is full")

        handshakes = HandshakeLog(audit, ManualClock())
        handshakes.refused("192.0.2.1:1", "no certificate")
        await handshakes.close()

    run(scene())


def test_both_ends_of_a_real_handshake_that_fails_note_it() -> None:
    """A client of another Management CA dials, and believes the listener as little."""

    async def scene() -> None:
        async with a_desk() as listening, a_desk() as dialling, Meadow() as here, Meadow() as there:
            node, stranger = here.node("ra1", {}), there.node("ca1", {})
            inward = AuditedNetwork(here.network, listening.log)
            outward = AuditedNetwork(there.network, dialling.log)
            listener = await inward.listen(
                Address("127.0.0.1", 0),
                identity=node.holder,
                on_link=lambda link: None,
                handler=node.handle,
                settings=NetSettings(),
            )
            try:
                with pytest.raises(HandshakeError):
                    await outward.dial(
                        listener.address,
                        identity=stranger.holder,
                        expected=node.node,
                        handler=stranger.handle,
                        settings=NetSettings(),
                    )
                await until(lambda: listening.written and dialling.written)
            finally:
                await listener.close()
            assert listening.written[0].detail["source"] == "127.0.0.1"
            assert dialling.written[0].detail["direction"] == "out"

    run(scene())
