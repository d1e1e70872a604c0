"""Management plans: objects, keys, entries and certificates in one transaction, or none of it."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.errors import Conflict, NotFound
from node_agent.store import open_store
from node_agent.store.records import ChangeKind, KeyRecord, ObjectChange, ObjectRecord
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate


def put(
    name: str, spec: bytes = b"{}", *, kind: str = "peer_roles", state: bytes = b""
) -> ObjectChange:
    record = ObjectRecord(kind=kind, name=name, spec=spec, state=state)
    return ObjectChange(kind=kind, name=name, record=record)


def delete(name: str, *, kind: str = "peer_roles") -> ObjectChange:
    return ObjectChange(kind=kind, name=name, record=None)


def key(label: str = "one", private: bytes = b"sealed") -> KeyRecord:
    return KeyRecord(
        token="default",
        label=label,
        key_kind="ec-p256",
        public_der=b"public",
        private_part=private,
        created_at=1,
    )


def test_plan_writes_all_its_parts(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url, clock=ManualClock(5000.7)) as store:
            await store.apply_plan(
                [put("b"), put("a", state=b"\x80"), put("x", kind="publishers")],
                keys=[key()],
                entries=[(AUTHORITY, b"authority")],
                certificates=[(certificate(1, request_id=b""), b"certificate")],
                audit=[audit("objects.put"), audit("objects.put")],
            )
            names = [(record.kind, record.name) for record in await store.objects()]
            assert names == [("peer_roles", "a"), ("peer_roles", "b"), ("publishers", "x")]
            assert [record.name for record in await store.objects("publishers")] == ["x"]
            assert await store.object("peer_roles", "a") == ObjectRecord(
                kind="peer_roles", name="a", spec=b"{}", state=b"\x80", updated_at=5000
            )
            assert await store.keys() == [key()]
            authority, issued = await store.changes(0, limit=10)
            assert (authority.kind, authority.at) == (ChangeKind.AUTHORITY, 5000)
            assert (issued.kind, issued.payload) == (ChangeKind.CERTIFICATE, b"certificate")
            assert await store.certificate(AUTHORITY, certificate(1).serial) is not None
            assert len(await store.audit_entries()) == 2

    run(scenario())


def test_generation_counts_changes_of_the_specification_only(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            generations = []
            for change in (put("a"), put("a", state=b"s"), put("a", b"{1}"), put("a", b"{1}")):
                await store.apply_plan([change])
                record = await store.object("peer_roles", "a")
                assert record is not None
                generations.append(record.generation)
            assert generations == [1, 1, 2, 2]

    run(scenario())


def test_one_plan_may_replace_an_object_by_deleting_it_first(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_plan([put("a"), put("b")])
            await store.apply_plan([delete("a"), put("a", b"{2}"), delete("b")])
            assert [record.spec for record in await store.objects()] == [b"{2}"]

    run(scenario())


@pytest.mark.parametrize("fault", ["object", "key", "certificate"])
def test_refused_plan_changes_nothing(store_url: str, fault: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_plan([], keys=[key()], certificates=[(certificate(1), b"")])
            deletions = [delete("absent")] if fault == "object" else []
            keys = [key(private=b"other")] if fault == "key" else []
            certificates = [(certificate(1), b"")] if fault == "certificate" else []
            error = NotFound if fault == "object" else Conflict
            with pytest.raises(error):
                await store.apply_plan(
                    [put("a"), *deletions],
                    keys=[key("two"), *keys],
                    entries=[(AUTHORITY, b"")],
                    certificates=[(certificate(2), b""), *certificates],
                    audit=[audit()],
                )
            assert await store.objects() == []
            assert await store.keys() == [key()]
            assert await store.last_position() == 1
            assert await store.audit_entries() == []
            assert await store.certificate(AUTHORITY, certificate(2).serial) is None

    run(scenario())


def test_key_that_is_stored_already_is_not_written_again(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.apply_plan([], keys=[key()])
            await store.apply_plan([], keys=[key()])
            assert await store.keys() == [key()]

    run(scenario())


def test_refused_plan_does_not_hurt_the_plans_beside_it(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            outcomes = await asyncio.gather(
                *(store.apply_plan([put(f"role-{n}")]) for n in range(5)),
                store.apply_plan([delete("absent")]),
                *(store.apply_plan([put(f"role-{n}", b"{2}")]) for n in range(5)),
                return_exceptions=True,
            )
            assert [index for index, outcome in enumerate(outcomes) if outcome] == [5]
            records = await store.objects()
            assert [(record.generation, record.spec) for record in records] == [(2, b"{2}")] * 5

    run(scenario())


def test_publisher_position_never_goes_backward(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            assert await store.publisher_position("va1") == 0
            for position in (5, 3, 9, 9):
                await store.set_publisher_position("va1", position)
            await store.set_publisher_position("va2", 1)
            assert await store.publisher_position("va1") == 9
            assert await store.publisher_position("va2") == 1

    run(scenario())
