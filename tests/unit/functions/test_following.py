"""Following the other nodes of a store: what is new, once; everything after a long time away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from node_agent.errors import StoreError, TokenError
from node_agent.functions import following
from node_agent.functions.following import StoreFollower
from node_agent.functions.signal import ChangeSignal
from node_agent.store import Store, open_store
from node_agent.store.records import ObjectChange, ObjectRecord
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, crl, status

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SERIAL = certificate(1).serial


class Recorder:
    """A node that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.settled_after: list[int] = []
        self.failure: Exception | None = None

    def status_changed(self, authority_id: str, serial: int) -> None:
        self.told.append(("status", serial))

    def status_listed(self, authority_id: str) -> None:
        self.told.append(("listed", authority_id))

    async def crl_changed(self, authority_id: str) -> None:
        self.told.append(("crl", authority_id))

    async def everything_changed(self) -> None:
        self.told.append(("everything", None))

    async def settled(self) -> None:
        self.settled_after.append(len(self.told))

    async def refresh(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append(("objects", None))


async def follower_of(
    store: Store, node: Recorder, changed: ChangeSignal, clock: ManualClock | None = None
) -> StoreFollower:
    return StoreFollower(
        store,
        follower=node,
        refresh=node.refresh,
        changed=changed,
        clock=clock or ManualClock(),
        begin=await store.heads(),
    )


async def add_object(store: Store, name: str) -> None:
    record = ObjectRecord(kind="peer_roles", name=name, spec=b"{}")
    await store.apply_plan([ObjectChange(kind="peer_roles", name=name, record=record)])


def test_each_sort_of_change_is_told_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            node, changed = Recorder(), ChangeSignal()
            follower = await follower_of(store, node, changed)
            await follower.look()
            assert (node.told, changed.count) == ([], 0)
            await store.record_issuance(certificate(1), b"p", audit())
            await store.record_status(status(1), b"s", audit())
            await store.record_crl(crl(1), b"c")
            await add_object(store, "a")
            await follower.look()
            await follower.look()
            assert node.told == [
                ("objects", None),
                ("status", SERIAL),
                ("status", SERIAL),
                ("listed", AUTHORITY),
                ("crl", AUTHORITY),
            ]
            assert changed.count == 1
            assert node.settled_after == [5], "a hung status worker would be waited for"

    run(scenario())


def test_who_was_away_long_forgets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_MOST_ENTRIES", 2)

    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            node, changed = Recorder(), ChangeSignal()
            follower = await follower_of(store, node, changed)
            for number in range(1, 5):
                await store.record_issuance(certificate(number), b"p", audit())
            await follower.look()
            await follower.look()
            assert node.told == [("everything", None)]

    run(scenario())


def test_what_nobody_foresaw_is_told_and_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            node, changed, clock = Recorder(), ChangeSignal(), ManualClock()
            follower = await follower_of(store, node, changed, clock)
            await add_object(store, "a")
            node.failure = AssertionError("a row that nobody thought of")
            running = asyncio.create_task(follower.run())
            while follower.last_error is None:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.001)
            assert "AssertionError" in follower.last_error
            node.failure = None
            while not node.told:
                clock.advance(1)
                await asyncio.sleep(0.01)
            assert node.told == [("objects", None)]
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    run(scenario())


def test_what_could_not_be_taken_over_is_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            node, changed = Recorder(), ChangeSignal()
            follower = await follower_of(store, node, changed)
            await add_object(store, "a")
            for failure in (StoreError("the database is away"), TokenError("another passphrase")):
                node.failure = failure
                running = asyncio.create_task(follower.run())
                while follower.last_error != str(failure):  # noqa: ASYNC110  # nothing announces it
                    await asyncio.sleep(0.001)
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
            node.failure = None
            await follower.look()
            assert node.told == [("objects", None)]

    run(scenario())
