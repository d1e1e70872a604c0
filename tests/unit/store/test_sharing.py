"""What several nodes agree on through one store: whose is what, whose turn, what was done."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.errors import Conflict, NotFound, Outdated, Superseded
from node_agent.store import Ownership, Store, open_store
from node_agent.store.records import (
    CertificateStatus,
    KeyRecord,
    ObjectChange,
    ObjectRecord,
    PublisherMark,
    StatusRequest,
)
from node_agent.store.status_once import REMEMBERED_SECONDS
from tests.support.clock import ManualClock
from tests.support.event_loop import run
from tests.support.store_records import AUTHORITY, audit, certificate, crl, status

OWN_KINDS = frozenset({"authenticators"})


def node_store(url: str, node: str) -> Store:
    return open_store(url, owner=Ownership(node=node, own_kinds=OWN_KINDS))


def change(kind: str, name: str, spec: bytes | None) -> ObjectChange:
    record = None if spec is None else ObjectRecord(kind=kind, name=name, spec=spec)
    return ObjectChange(kind=kind, name=name, record=record)


def key(node: str) -> KeyRecord:
    return KeyRecord(
        token="default",
        label="key",
        key_kind="ec-p256",
        public_der=b"public",
        private_part=node.encode(),
        created_at=1,
        node=node,
    )


def test_a_node_sees_its_own_objects_and_the_common_ones(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            await one.apply_plan(
                [change("authenticators", "peer", b"1"), change("roles", "r", b"1")]
            )
            await two.apply_plan([change("authenticators", "peer", b"2")])
            assert {(r.kind, r.spec) for r in await one.objects()} == {
                ("authenticators", b"1"),
                ("roles", b"1"),
            }
            assert {(r.kind, r.spec) for r in await two.objects()} == {
                ("authenticators", b"2"),
                ("roles", b"1"),
            }
            await two.apply_plan([change("authenticators", "peer", None)])
            assert await two.object("authenticators", "peer") is None
            assert await one.object("authenticators", "peer") is not None
            with pytest.raises(NotFound):
                await two.apply_plan([change("authenticators", "peer", None)])

    run(scenario())


def test_a_node_never_reads_the_keys_of_another(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            for node in ("ca1", "ca2", ""):
                await one.apply_plan([], keys=[key(node)])
            assert {k.node for k in await one.keys()} == {"", "ca1"}
            assert {k.node for k in await two.keys()} == {"", "ca2"}
            async with two.reader() as reader:
                assert {k.node for k in await reader.keys()} == {"", "ca2"}

    run(scenario())


def test_a_plan_against_an_older_revision_is_refused_as_a_whole(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            revision = (await one.heads()).revision
            await one.apply_plan([change("roles", "a", b"1")], made_at=revision)
            with pytest.raises(Outdated):
                await two.apply_plan([change("roles", "b", b"1")], made_at=revision)
            assert await two.object("roles", "b") is None
            await two.apply_plan([change("roles", "b", b"1")], made_at=revision + 1)
            assert (await one.heads()).revision == revision + 2

    run(scenario())


def test_only_plans_move_the_revision(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            before = await store.heads()
            await store.append_audit([audit()])
            await store.record_issuance(certificate(1), b"p", audit())
            after = await store.heads()
            assert (after.revision, after.log_id) == (before.revision, before.log_id)
            assert after.position == before.position + 1
            assert len(before.log_id) == 16

    run(scenario())


def test_followed_entries_are_those_of_the_change_log_without_payloads(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_issuance(certificate(1), b"p", audit())
            await store.record_status(status(1), b"s", audit())
            await store.record_crl(crl(1), b"c")
            found = await store.followed(1, limit=10)
            assert [(e.position, e.kind, e.serial) for e in found] == [
                (2, "status", certificate(1).serial),
                (3, "crl", None),
            ]

    run(scenario())


REQUEST = StatusRequest(origin="ra1", request_id=b"r" * 16, digest=b"d" * 32)


def test_a_requested_change_of_status_happens_once_at_whichever_node(store_url: str) -> None:
    async def scenario() -> None:
        hold = status(1, CertificateStatus.ON_HOLD)
        release = status(1, CertificateStatus.GOOD)
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            await one.record_issuance(certificate(1), b"p", audit())
            both = await asyncio.gather(
                *(s.record_status_once(hold, b"s", audit(), REQUEST) for s in (one, two))
            )
            assert sorted(outcome.repeated for outcome in both) == [False, True]
            assert {outcome.position for outcome in both} == {2}
            await two.record_status(release, b"s", audit())
            again = await two.record_status_once(hold, b"s", audit(), REQUEST)
            assert (again.repeated, again.position) == (True, 2)
            stored = await one.certificate(AUTHORITY, certificate(1).serial)
            assert stored is not None
            assert stored.status is CertificateStatus.GOOD
            other = StatusRequest(origin="ra1", request_id=b"r" * 16, digest=b"e" * 32)
            with pytest.raises(Conflict, match="another request"):
                await one.record_status_once(hold, b"s", audit(), other)

    run(scenario())


def test_a_requested_change_that_is_refused_is_not_remembered(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            with pytest.raises(NotFound):
                await store.record_status_once(status(1), b"s", audit(), REQUEST)
            await store.record_issuance(certificate(1), b"p", audit())
            outcome = await store.record_status_once(status(1), b"s", audit(), REQUEST)
            assert not outcome.repeated

    run(scenario())


def test_requests_are_forgotten_when_they_are_too_old_to_be_valid(store_url: str) -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        async with open_store(store_url, clock=clock) as store:
            await store.record_issuance(certificate(1), b"p", audit())
            await store.record_status_once(status(1), b"s", audit(), REQUEST)
            clock.advance(REMEMBERED_SECONDS + 2)
            later = StatusRequest(origin="ra1", request_id=b"n" * 16, digest=b"d" * 32)
            assert (await store.record_status_once(status(1), b"s", audit(), later)).position == 0
            first = await store.record_status_once(status(1), b"s", audit(), REQUEST)
            assert not first.repeated

    run(scenario())


def test_a_crl_that_another_node_made_meanwhile_is_dropped(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            first, second = await one.begin_crl(AUTHORITY), await two.begin_crl(AUTHORITY)
            assert (first.number, second.number) == (1, 2)
            await one.record_crl(crl(1), b"c", start=first)
            with pytest.raises(Superseded):
                await two.record_crl(crl(2), b"c", start=second)
            assert (await two.begin_crl(AUTHORITY)).number == 3

    run(scenario())


def test_a_crl_that_holds_more_than_the_newest_is_kept(store_url: str) -> None:
    async def scenario() -> None:
        async with open_store(store_url) as store:
            await store.record_issuance(certificate(1), b"p", audit())
            first = await store.begin_crl(AUTHORITY)
            await store.record_status(status(1), b"s", audit())
            assert await store.uncovered_shards(AUTHORITY) == {0}
            second = await store.begin_crl(AUTHORITY)
            await store.record_crl(crl(first.number), b"c", start=first)
            assert await store.uncovered_shards(AUTHORITY) == {0}
            await store.record_crl(crl(second.number), b"c", start=second)
            assert not await store.uncovered_shards(AUTHORITY)
            head = await store.crl_head(AUTHORITY)
            assert head is not None
            assert head.number == second.number

    run(scenario())


def test_a_turn_is_given_to_one_of_those_who_want_it(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            nobody = await one.publisher_mark("va1")
            assert nobody == PublisherMark()
            marks = await asyncio.gather(*(s.take_turn("va1", nobody) for s in (one, two)))
            assert marks[0] == marks[1]
            holder, other = (one, two) if marks[0].holder == "ca1" else (two, one)
            kept = await holder.keep_turn("va1", 7)
            assert (kept.position, kept.beat) == (7, marks[0].beat + 1)
            late = await other.keep_turn("va1", 5)
            assert late == kept
            assert (await other.take_turn("va1", marks[0])) == kept
            taken = await other.take_turn("va1", kept)
            assert (taken.holder, taken.position) == (other._owner.node, 7)

    run(scenario())


def test_nodes_share_a_store_only_with_a_shared_passphrase(store_url: str) -> None:
    async def scenario() -> None:
        async with node_store(store_url, "ca1") as one, node_store(store_url, "ca2") as two:
            assert [n.name for n in await one.join(shares_passphrase=False)] == ["ca1"]
            with pytest.raises(Conflict, match="ca1 uses this store without"):
                await two.join(shares_passphrase=True)
            await one.join(shares_passphrase=True)
            with pytest.raises(Conflict, match="shared_passphrase_file"):
                await two.join(shares_passphrase=False)
            assert [n.name for n in await two.join(shares_passphrase=True)] == ["ca1", "ca2"]
            assert [n.name for n in await one.nodes()] == ["ca1", "ca2"]

    run(scenario())
