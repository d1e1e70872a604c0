"""A VA that was away catches up in bounded memory, and nobody waits for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from node_agent.clock import SystemClock
from node_agent.functions.provenance import OwnLog
from node_agent.functions.publishing import Publisher
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import PublisherSpec
from node_agent.peers.operations import (
    PUBLISH,
    EnrollRequest,
    Operation,
    PositionAnswer,
    PositionRequest,
    PublishAnswer,
    PublishRequest,
)
from node_agent.store.records import ChangeEntry, ChangeKind, StoreHeads
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.own_authority import NODE, context, own_authority
from tests.unit.functions.test_publishing import publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import msgspec

ENTRIES = 200_000
PAYLOAD = b"c" * 900


@dataclass
class Va:
    """The other end: acknowledges what it is sent, while its gate is open."""

    position: int = 0
    held: int = 0
    most_held: int = 0
    batches: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, operation: Operation[Any, Any], request: msgspec.Struct, **_: Any) -> Any:
        """Take what comes, as if over a link."""
        if operation is not PUBLISH:
            assert isinstance(request, PositionRequest)
            return PositionAnswer(position=self.position)
        assert isinstance(request, PublishRequest)
        self.batches += 1
        self.held += len(request.entries)
        self.most_held = max(self.most_held, self.held)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.held -= len(request.entries)
        assert request.after >= self.position, "an entry was sent out of order"
        self.position = request.position
        return PublishAnswer(position=request.position)


@dataclass
class LongLog:
    """A store with a long change log, which counts what of it is in memory: what was read and
    isn't acknowledged yet.
    """

    va: Va
    most_read: int = 0

    async def heads(self) -> StoreHeads:
        """It doesn't grow."""
        return StoreHeads(position=ENTRIES, revision=1, log_id=b"log")

    async def last_position(self) -> int:
        """Return its end."""
        return ENTRIES

    async def changes(
        self, after: int, *, limit: int, authority_ids: Sequence[str], kinds: Sequence[ChangeKind]
    ) -> list[ChangeEntry]:
        """Return what follows."""
        end = min(after + limit, ENTRIES)
        self.most_read = max(self.most_read, end - self.va.position)
        return [
            ChangeEntry(
                position=position,
                kind=ChangeKind.CERTIFICATE,
                authority_id=authority_ids[0],
                serial=position,
                at=1,
                payload=PAYLOAD,
            )
            for position in range(after + 1, end + 1)
        ]

    async def publisher_position(self, publisher: str) -> int:
        """Nothing was kept."""
        return 0

    async def set_publisher_position(self, publisher: str, position: int) -> None:
        """Keep nothing."""


def publisher_to(va: Va, store: Any, changed: ChangeSignal, name: str = "va1") -> Publisher:
    return Publisher(
        PublisherSpec(
            name=name,
            peer=f"spiffe://test.example/node/{name}",
            authorities=("issuing",),
            content=("certificate", "status"),
        ),
        own_log=OwnLog(NODE.uri),
        store=store,
        caller=va,
        changed=changed,
        authority_ids=lambda: {"issuing": "a" * 32},
        clock=SystemClock(),
    )


def test_a_day_of_entries_is_caught_up_in_bounded_memory() -> None:
    async def scenario() -> None:
        va = Va()
        va.gate.set()
        log = LongLog(va)
        task = asyncio.create_task(publisher_to(va, log, ChangeSignal()).run())
        while va.position < ENTRIES:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert va.batches == ENTRIES / 500
        # Four batches on their way, and one that was read for the next.
        assert va.most_held <= 4 * 500
        assert log.most_read <= 5 * 500

    run(scenario(), timeout_seconds=120)


@asynccontextmanager
async def running(*publishers: Publisher) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(publisher.run()) for publisher in publishers]
        yield
        for task in started:
            task.cancel()


def test_neither_issuing_nor_another_va_waits_for_one_that_hangs(tmp_path: Path) -> None:
    async def scenario() -> None:
        hanging, well = Va(), Va()
        well.gate.set()
        async with own_authority(tmp_path) as own:
            ids = own.known.ids_by_name
            publishers = [
                publisher_to(va, own.store, own.changed, name)
                for va, name in ((hanging, "va1"), (well, "va2"))
            ]
            for publisher in publishers:
                publisher._authority_ids = ids
            async with running(*publishers):
                while not hanging.batches:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                for number in range(1, 6):
                    csr = csr_der(names=[f"dns:{number}.example.org"])
                    request = EnrollRequest(authority="issuing", profile="server", csr=csr)
                    await own.service.enroll(context(number=number), request)
                last = await own.store.last_position()
                while well.position < last:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert hanging.position == 0
                assert publishers[0].snapshot().lag_entries > 0
                hanging.gate.set()
                while hanging.position < last:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    run(scenario())


def test_what_nobody_foresaw_is_told_and_published_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("certificate", "status")) as it:
            await it.caught_up()
            it.calls.fault = OverflowError("a position that no column holds")
            await it.issue(1)
            while "OverflowError" not in (it.publisher.snapshot().last_error or ""):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await it.caught_up()
            assert it.publisher.snapshot().last_error is None

    run(scenario())
