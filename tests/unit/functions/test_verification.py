"""A VA whose rows were lost, changed or added to is found out and put right by its CA."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import AsyncMock

import msgspec
import pytest

from node_agent.clock import SystemClock
from node_agent.errors import Conflict, RemoteError, Unavailable
from node_agent.functions.compared import ComparedStore
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.provenance import OwnLog, OwnWork
from node_agent.functions.publisher_lanes import PublisherLanes
from node_agent.functions.publishing import Publisher
from node_agent.functions.range_digests import LeafKeeper
from node_agent.functions.receipts import receipt_for
from node_agent.functions.receiving import Applied, PublicationReceiver
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import AccessRule, PeerRoleSpec, PublisherSpec
from node_agent.peers.codec import ENCODER, UNREADABLE
from node_agent.peers.operations import (
    PUBLISH,
    PUBLISH_CONTENT,
    PUBLISH_DIGESTS,
    PUBLISH_ENTRIES,
    PUBLISH_POSITION,
    PUBLISH_RECORDS,
    PUBLISH_REPAIR,
    EnrollRequest,
    EntriesRequest,
    Operation,
)
from node_agent.policy import parse_roles
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateStatus
from node_agent.web.backends import RevocationOrder
from node_agent.wire.codes import Status
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.lying_va import LIES, LyingVa
from tests.support.own_authority import NODE, OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from node_agent.functions.verification import Verification
    from node_agent.web.backends import AuthorityComparison


def as_decoded(operation: Operation[Any, Any], answer: msgspec.Struct) -> Any:
    """Return an answer as it is read from a link. Raises RemoteError for one out of its schema."""
    try:
        return msgspec.msgpack.decode(ENCODER.encode(answer), type=operation.answer_type)
    except UNREADABLE as error:
        raise RemoteError("can't be read", status=Status.INTERNAL) from error


@dataclasses.dataclass
class ToVa:
    """Carries calls to the VA's handlers, and counts the octets of what is asked and answered."""

    receiver: PublicationReceiver
    compared: ComparedStore
    asked: list[str] = dataclasses.field(default_factory=list)
    holds_back: bool = False
    liar: LyingVa = dataclasses.field(default_factory=LyingVa)
    rules: tuple[AccessRule, ...] = (AccessRule(resource="/peer/publish/**"),)

    async def call(
        self, operation: Operation[Any, Any], request: msgspec.Struct, **options: Any
    ) -> Any:
        """Hand the request over as if it had come over a link of ca1."""
        await asyncio.sleep(0)
        self.asked.append(operation.method)
        if self.holds_back and operation is PUBLISH:
            await asyncio.Event().wait()
        if operation in self.liar.lies:
            return as_decoded(operation, self.liar.answer(operation.method, request))
        handlers: dict[str, Any] = {
            PUBLISH.method: self.receiver.publish,
            PUBLISH_CONTENT.method: self.receiver.content,
            PUBLISH_POSITION.method: self.receiver.position,
            PUBLISH_DIGESTS.method: self.compared.digests,
            PUBLISH_ENTRIES.method: self.compared.entries,
            PUBLISH_RECORDS.method: self.compared.records,
            PUBLISH_REPAIR.method: self.compared.repair,
        }
        roles = parse_roles([PeerRoleSpec(name="ca", members=(NODE.uri,), rules=self.rules)])
        body = options.get("body") or _no_body
        came = dataclasses.replace(context("ca1"), roles=roles, body=body())
        return await handlers[operation.method](came, request)


async def _no_body() -> AsyncIterator[bytes]:
    for piece in ():
        yield piece


@dataclasses.dataclass
class Pair:
    """A CA, its VA, and the publisher between them."""

    own: OwnAuthority
    va: Store
    calls: ToVa
    publisher: Publisher
    verification: Verification
    applied: list[Applied]
    serials: list[int] = dataclasses.field(default_factory=list)

    async def issue(self, count: int) -> list[int]:
        """Issue certificates; return their serials."""
        from cryptography import x509

        serials = []
        for _ in range(count):
            number = len(self.calls.asked) * 1000 + len(serials) + 1
            csr = csr_der(names=[f"dns:{number}.example.org"])
            request = EnrollRequest(authority="issuing", profile="server", csr=csr)
            answer = await self.own.service.enroll(context(number=number), request)
            serials.append(x509.load_der_x509_certificate(answer.chain[0]).serial_number)
        return serials

    async def caught_up(self) -> None:
        """Wait until the publisher has nothing left to send."""
        while True:
            now = self.publisher.snapshot()
            if now.state == "up" and now.position >= await self.own.store.last_position():
                return
            await self.own.changed.wait(self.own.changed.count, 0.02)

    async def compare(self, *, repair: bool = False, **options: bool) -> AuthorityComparison:
        """Compare the two; return what was found for the issuing CA."""
        found = await self.verification.verify(self.publisher, repair=repair, **options)
        (one,) = found.authorities
        return one

    def by_hand(self, statement: str, *values: object) -> None:
        """Change the VA's rows past everything."""
        with self.va._writing.begin() as connection:
            assert connection.exec_driver_sql(statement, values).rowcount

    async def settled(self) -> None:
        """Assert that nothing differs any more."""
        again = await self.compare()
        assert (again.missing, again.changed, again.surplus, again.crls) == (0, 0, 0, 0)


@asynccontextmanager
async def pair(directory: Path, **spec: Any) -> AsyncIterator[Pair]:
    """Yield a CA that has issued ten certificates and revoked one, and a VA that knows them."""
    (directory / "va").mkdir()
    async with (
        own_authority(directory) as own,
        open_store(f"sqlite:///{directory / 'va' / 'store.sqlite3'}") as va,
        asyncio.TaskGroup() as tasks,
    ):
        known, applied = KnownAuthorities(), list[Applied]()
        settled = AsyncMock()
        receiver = PublicationReceiver(
            va,
            known,
            clock=SystemClock(),
            changed=ChangeSignal(),
            on_applied=applied.append,
            settled=settled,
        )
        compared = ComparedStore(
            va, known, LeafKeeper(va), on_applied=applied.append, settled=settled
        )
        calls = ToVa(receiver, compared)
        publisher = Publisher(
            PublisherSpec(
                name="va1",
                peer="spiffe://test.example/node/va1",
                authorities=("issuing",),
                **spec,
            ),
            own_log=OwnLog(NODE.uri),
            store=own.store,
            caller=calls,
            changed=own.changed,
            authority_ids=own.known.ids_by_name,
            clock=SystemClock(),
        )
        verification = own.verification(calls)
        task = tasks.create_task(publisher.run())
        it = Pair(own, va, calls, publisher, verification, applied)
        serials = it.serials = await it.issue(10)
        order = RevocationOrder(reason="superseded")
        await own.service.revoke_locally("issuing", serials[0], order, caller="local")
        await it.caught_up()
        yield it
        task.cancel()


class Stale(OwnWork):
    """What a VA that lost its CA says of itself."""

    def age_seconds(self, names: Sequence[str]) -> float | None:
        """Older than anybody should hand on."""
        return 3600.0


def test_two_that_agree_are_told_apart_by_one_question(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            before = len(it.calls.asked)
            found = await it.compare()
            assert (found.missing, found.changed, found.surplus, found.repaired) == (0, 0, 0, 0)
            assert found.entries == 10
            assert it.calls.asked[before:].count("publish.digests") == 1
            assert "publish.entries" not in it.calls.asked

    run(scenario())


def test_a_comparison_says_in_how_many_exchanges(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.by_hand("DELETE FROM certificates WHERE id = 4")
            before = len(it.calls.asked)
            result = await it.verification.verify(it.publisher, repair=True)
            compared = ("publish.digests", "publish.entries", "publish.repair", "publish.records")
            asked = [method for method in it.calls.asked[before:] if method in compared]
            mended = ["publish.entries", "publish.repair", "publish.records"]
            assert asked == ["publish.digests"] * 4 + mended
            assert result.exchanges == len(asked)
            again = await it.verification.verify(it.publisher, repair=True)
            assert again.exchanges == 2

    run(scenario())


TAMPERED = {
    "lost": ("DELETE FROM certificates WHERE id = 4", "missing"),
    "un-revoked": (
        "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL "
        "WHERE status = 'revoked'",
        "changed",
    ),
    "revoked": (
        "UPDATE certificates SET status = 'revoked', revoked_at = 5 WHERE id = 4",
        "changed",
    ),
    "another time": ("UPDATE certificates SET revoked_at = 5 WHERE status = 'revoked'", "changed"),
    "another reason": ("UPDATE certificates SET reason = 1 WHERE status = 'revoked'", "changed"),
    "another certificate": ("UPDATE certificates SET der = x'3000' WHERE id = 4", "changed"),
    "no certificate": ("UPDATE certificates SET der = x'' WHERE id = 4", "changed"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_found_and_put_right(tmp_path: Path, what: str) -> None:
    async def scenario() -> None:
        statement, kind = TAMPERED[what]
        async with pair(tmp_path) as it:
            it.by_hand(statement)
            found = await it.compare()
            assert {name: getattr(found, name) for name in ("missing", "changed", "surplus")} == {
                **{"missing": 0, "changed": 0, "surplus": 0},
                kind: 1,
            }
            assert found.repaired == 0
            assert (await it.compare(repair=True)).repaired == 1
            await it.settled()
            assert it.applied[-1].certificates

    run(scenario())


@pytest.mark.parametrize("what", LIES)
def test_an_answer_to_another_question_is_refused(tmp_path: Path, what: str) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.by_hand("DELETE FROM certificates WHERE id = 4")
            it.calls.liar.lies = LIES[what]
            with pytest.raises(RemoteError):
                await it.compare(repair=True)
            it.calls.liar.lies = {}
            assert (await it.compare(repair=True)).repaired <= 1
            await it.settled()

    run(scenario())


@pytest.mark.parametrize("what", ["unexpected", "no digests"])
def test_comparisons_go_on_whatever_one_of_them_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("node_agent.functions.verification._LOOK_SECONDS", 0.01)

    def unexpected(request: msgspec.Struct) -> NoReturn:
        raise IndexError("nobody thought of it")

    async def scenario() -> None:
        async with pair(tmp_path, verify_seconds=1) as it:
            lanes = PublisherLanes(it.publisher.spec, lambda part: it.publisher)
            it.calls.liar.lies = {**LIES, "unexpected": {PUBLISH_DIGESTS: unexpected}}[what]
            comparing = asyncio.create_task(it.verification.run(lambda: [lanes]))
            while lanes.snapshot().last_error is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (lanes.snapshot().last_error or "").startswith("not compared: ")
            it.calls.liar.lies = {}
            while lanes.snapshot().verified_at is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert lanes.snapshot().last_error is None
            comparing.cancel()
            await asyncio.gather(comparing, return_exceptions=True)

    run(scenario())


def test_more_than_anybody_issued_isnt_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.functions.verification._MOST_SURPLUS", 2)

    async def scenario() -> None:
        async with pair(tmp_path) as it:
            for number in (4, 5, 6):
                serial = bytes([0x11, number] * 10)
                it.by_hand(f"UPDATE certificates SET serial = ? WHERE id = {number}", serial)
            with pytest.raises(RemoteError, match="never issued"):
                await it.compare(repair=True)

    run(scenario())


def test_whoever_asks_behind_the_last_serial_is_told_of_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            request = EntriesRequest(
                authority="issuing",
                authority_id=it.own.authority_id(),
                buckets=(0xFFFF,),
                after=b"\xff" * 20,
            )
            answer = await it.calls.call(PUBLISH_ENTRIES, request)
            assert (answer.entries, answer.has_more) == ((), False)

    run(scenario())


def test_what_the_ca_never_issued_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            serial = bytes.fromhex("11" * 20)
            it.by_hand("UPDATE certificates SET serial = ? WHERE id = 4", serial)
            found = await it.compare(repair=True)
            assert (found.missing, found.changed, found.surplus, found.repaired) == (1, 0, 1, 2)
            number = int.from_bytes(serial, "big")
            assert await it.va.certificate(it.own.authority_id(), number) is None
            assert it.applied[-1].statuses[0].serial == number
            await it.settled()

    run(scenario())


def test_a_va_that_lost_everything_is_filled_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.by_hand("DELETE FROM certificates")
            found = await it.compare(repair=True)
            assert (found.missing, found.repaired) == (10, 10)
            await it.settled()

    run(scenario())


def test_tampering_past_the_triggers_is_found_by_recomputing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await it.compare()
            it.by_hand("UPDATE certificates SET status = 'revoked', revoked_at = 5 WHERE id = 4")
            with it.va._writing.begin() as connection:
                connection.exec_driver_sql("DELETE FROM sync_marks")
            assert (await it.compare()).changed == 0
            assert (await it.compare(recompute=True, repair=True)).repaired == 1
            await it.settled()

    run(scenario())


def test_what_is_on_its_way_is_no_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.calls.holds_back = True
            await it.issue(3)
            found = await it.compare(repair=True)
            assert (found.entries, found.missing, found.repaired) == (13, 0, 0)

    run(scenario())


def test_a_status_only_va_is_compared_by_statuses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, content=("status",)) as it:
            await it.settled()
            it.by_hand("DELETE FROM certificates WHERE status = 'revoked'")
            assert (await it.compare(repair=True)).repaired == 1
            await it.settled()
            rows = [
                await it.va.certificate(it.own.authority_id(), entry.serial or 0)
                for entry in await it.own.store.changes(0, limit=100)
                if entry.kind == "status"
            ]
            assert [row.status for row in rows if row] == [CertificateStatus.REVOKED]
            assert [row.der for row in rows if row] == [b""]

    run(scenario())


def test_only_what_is_published_is_compared(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, only_revoked=True) as it:
            assert (await it.compare()).entries == 1
            await it.settled()
            it.by_hand(
                "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL "
                "WHERE status = 'revoked'"
            )
            assert (await it.compare(repair=True)).changed == 1
            it.by_hand("DELETE FROM certificates")
            assert (await it.compare(repair=True)).missing == 1
            await it.settled()
            record = await it.own.store.certificate(it.own.authority_id(), it.serials[1])
            assert record is not None
            await it.va.apply_published("by hand", 1, certificates=[record])
            assert (await it.compare(repair=True)).surplus == 1
            await it.settled()

    run(scenario())


def test_who_may_not_take_back_only_adds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.calls.rules = tuple(
                AccessRule(resource=f"/peer/publish/{verb}")
                for verb in ("certificate", "status", "crl", "read")
            )
            it.by_hand("UPDATE certificates SET status = 'revoked', revoked_at = 5 WHERE id = 4")
            it.by_hand("DELETE FROM certificates WHERE id = 5")
            it.by_hand("UPDATE certificates SET serial = ? WHERE id = 6", b"\x11" * 20)
            it.by_hand(
                "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL "
                "WHERE id NOT IN (4, 5, 6) AND status = 'revoked'"
            )
            found = await it.compare(repair=True)
            assert (found.missing, found.changed, found.surplus, found.repaired) == (2, 2, 1, 3)
            again = await it.compare()
            assert (again.missing, again.changed, again.surplus) == (0, 1, 1)
            row = await it.va.certificate(it.own.authority_id(), it.serials[0])
            assert row is not None
            assert row.status is CertificateStatus.REVOKED

    run(scenario())


def test_who_is_not_up_to_date_puts_nobody_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.by_hand("DELETE FROM certificates WHERE id = 5")
            it.verification._provenance = Stale()
            assert (await it.compare()).missing == 1
            with pytest.raises(Unavailable, match="isn't up to date"):
                await it.compare(repair=True)

    run(scenario())


def test_what_a_repair_adds_goes_on_to_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            before = await it.va.last_position()
            it.by_hand("DELETE FROM certificates WHERE status = 'revoked'")
            await it.compare(repair=True)
            added = await it.va.changes(before, limit=10)
            assert [(entry.kind.value, entry.serial) for entry in added] == [
                ("certificate", it.serials[0]),
                ("status", it.serials[0]),
            ]

    run(scenario())


def test_who_has_no_link_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            it.verification._is_linked = lambda peer: False
            with pytest.raises(Unavailable, match=r"no link to \S+va1 is up: `peersys status`"):
                await it.compare()

    run(scenario())


async def claim_more(it: Pair) -> None:
    """Let the VA have got more than the CA's log holds, with the receipt for it."""
    source = it.publisher._source()
    position = await it.va.source_position(source) + 1000
    secret = (await it.own.store.heads()).log_secret
    await it.va.apply_published(source, position, receipt=receipt_for(secret, source, position))


def test_a_ca_that_was_restored_from_an_old_copy_repairs_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await claim_more(it)
            it.by_hand("UPDATE certificates SET serial = ? WHERE id = 4", b"\x11" * 20)
            with pytest.raises(Conflict, match="peersys recover"):
                await it.compare(repair=True)
            found = await it.compare()
            assert (found.missing, found.surplus, found.repaired) == (1, 1, 0)

    run(scenario())


def test_a_va_that_was_set_back_is_sent_what_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.functions.publishing._ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("node_agent.functions.publishing._LOOK_AGAIN_SECONDS", 0.05)

    async def scenario() -> None:
        async with pair(tmp_path) as it:
            last = await it.own.store.last_position()
            with it.va._writing.begin() as connection:
                connection.exec_driver_sql("DELETE FROM certificates WHERE id > 5")
                connection.exec_driver_sql("UPDATE source_positions SET position = position - 7")
            source = it.publisher._source()
            while await it.va.source_position(source) < last:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await it.caught_up()
            await it.settled()
            found = await it.compare()
            assert (found.missing, found.surplus, found.repaired) == (0, 0, 0)

    run(scenario())


def test_a_ca_that_was_restored_from_an_old_copy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.functions.publishing._ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("node_agent.functions.publishing._LOOK_AGAIN_SECONDS", 0.05)

    async def scenario() -> None:
        async with pair(tmp_path) as it:
            await claim_more(it)
            while it.publisher.snapshot().last_error is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert "restored from an old copy" in (it.publisher.snapshot().last_error or "")

    run(scenario())
