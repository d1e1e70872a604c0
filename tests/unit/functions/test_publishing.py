"""A publisher follows the log: in order, filtered, resumed where the receiver says."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from node_agent.clock import SystemClock
from node_agent.errors import LinkClosed
from node_agent.functions import publishing as publishing_module
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.provenance import OwnLog
from node_agent.functions.publisher_lanes import PublisherLanes
from node_agent.functions.publishing import Publisher, source_name
from node_agent.functions.receiving import Applied, PublicationReceiver
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import PublisherSpec
from node_agent.peers.operations import (
    PUBLISH,
    PUBLISH_CONTENT,
    ContentRequest,
    EnrollRequest,
    Operation,
    PublishRequest,
)
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateStatus
from node_agent.web.backends import RevocationOrder
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.many_certificates import put_certificates
from tests.support.own_authority import NODE, OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    import msgspec

    from node_agent.clock import Clock
    from node_agent.identity import NodeIdentity


@dataclass
class ToReceiver:
    """Carries a publisher's calls to a receiver; ``cut`` loses the next so many of them."""

    receiver: PublicationReceiver
    known: KnownAuthorities
    cut: int = 0
    batches: list[PublishRequest] = field(default_factory=list)
    contents: list[ContentRequest] = field(default_factory=list)
    cut_after: int = 0
    asked: int = 0
    fault: Exception | None = None
    """Raised once."""
    hang: bool = False
    """Whether calls get no answer at all."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Pieces of CRLs travel while it is set."""
    sending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there were such pieces."""

    def __post_init__(self) -> None:
        """Let everything pass."""
        self.gate.set()

    async def _cut_body(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass on a body; with ``cut_after``, only so many octets of it, once."""
        left = self.cut_after
        async for piece in body:
            # Pieces come apart on the way: nobody may rely on their bounds.
            for start in range(0, len(piece), 60_000):
                yield piece[start : start + 60_000]
            left -= len(piece)
            if self.cut_after and left <= 0:
                self.cut_after = 0
                raise LinkClosed("cut in mid-stream")

    async def call(
        self,
        operation: Operation[Any, Any],
        request: msgspec.Struct,
        *,
        peers: Sequence[NodeIdentity],
        timeout_seconds: float,
        request_id: bytes | None = None,
        requester: str = "",
        body: Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> Any:
        """Hand the request over as if it had come over a link of ca1."""
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        if self.hang:
            await asyncio.Event().wait()
        if self.cut:
            self.cut -= 1
            raise LinkClosed("cut")
        await asyncio.sleep(0)
        if operation is PUBLISH_CONTENT:
            assert isinstance(request, ContentRequest)
            self.contents.append(request)
            self.sending.set()
            await self.gate.wait()
            received = context("ca1")
            if body is not None:
                received = dataclasses.replace(received, body=self._cut_body(body()))
            return await self.receiver.content(received, request)
        if operation is PUBLISH:
            assert isinstance(request, PublishRequest)
            self.batches.append(request)
            return await self.receiver.publish(context("ca1"), request)
        self.asked += 1
        return await self.receiver.position(context("ca1"), request)  # type: ignore[arg-type]


@dataclass
class Publishing:
    """A CA, a publisher of it, and the VA at the other end."""

    own: OwnAuthority
    va: Store
    calls: ToReceiver
    publisher: PublisherLanes
    tasks: asyncio.TaskGroup
    task: asyncio.Task[None]

    async def republish(self, **spec: Any) -> None:
        """Put another publisher in place of the running one, as a changed specification does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.publisher = _publisher(self.own, self.calls, **spec)
        self.task = self.tasks.create_task(self.publisher.run())

    async def issue(self, number: int) -> int:
        """Issue a certificate and return its serial."""
        from cryptography import x509

        csr = csr_der(names=[f"dns:{number}.example.org"])
        request = EnrollRequest(authority="issuing", profile="server", csr=csr)
        answer = await self.own.service.enroll(context(number=number), request)
        return x509.load_der_x509_certificate(answer.chain[0]).serial_number

    async def caught_up(self) -> None:
        """Wait until the publisher has nothing left to send."""
        while True:
            seen = self.own.changed.count
            now = self.publisher.snapshot()
            last = await self.own.store.last_position()
            if now.state == "up" and now.position >= last:
                return
            await self.own.changed.wait(seen, 0.02)


@asynccontextmanager
async def publishing(directory: Path, **spec: Any) -> AsyncIterator[Publishing]:
    """Yield a running publisher of the CA ``issuing``."""
    (directory / "va").mkdir()
    async with (
        own_authority(directory) as own,
        open_store(f"sqlite:///{directory / 'va' / 'store.sqlite3'}") as va,
        asyncio.TaskGroup() as tasks,
    ):
        known = KnownAuthorities()
        receiver = PublicationReceiver(
            va,
            known,
            clock=SystemClock(),
            changed=ChangeSignal(),
            on_applied=_ignore,
            settled=AsyncMock(),
        )
        calls = ToReceiver(receiver, known, cut=spec.pop("cut", 0))
        publisher = _publisher(own, calls, **spec)
        it = Publishing(own, va, calls, publisher, tasks, tasks.create_task(publisher.run()))
        yield it
        it.task.cancel()


def _publisher(
    own: OwnAuthority, calls: ToReceiver, *, clock: Clock | None = None, **spec: Any
) -> PublisherLanes:
    chosen = {"authorities": ("issuing",), **spec}
    return PublisherLanes(
        PublisherSpec(name="va1", peer="spiffe://test.example/node/va1", **chosen),
        lambda part: Publisher(
            part,
            own_log=OwnLog(NODE.uri),
            store=own.store,
            caller=calls,
            changed=own.changed,
            authority_ids=own.known.ids_by_name,
            clock=clock or SystemClock(),
        ),
    )


def _ignore(applied: Applied) -> None:
    """Nothing keeps answers here."""


def test_what_is_issued_and_revoked_arrives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            serials = [await it.issue(number) for number in range(1, 6)]
            order = RevocationOrder(reason="superseded")
            await it.own.service.revoke_locally("issuing", serials[0], order, caller="local")
            await it.caught_up()
            found = [await it.va.certificate(it.own.authority_id(), s) for s in serials]
            assert [item.status.value for item in found if item] == ["revoked", *["good"] * 4]
            assert it.publisher.snapshot().lag_entries == 0

    run(scenario())


def test_entries_of_other_cas_are_left_out_and_leave_no_gap(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            first = await it.issue(1)
            await it.caught_up()
            # Two positions that this peer is not told of, then one that it is.
            await it.own.crls.make_if_due("management")
            await it.own.crls.make_if_due("root")
            await it.caught_up()
            loop = asyncio.get_running_loop()
            began = loop.time()
            second = await it.issue(2)
            await it.caught_up()
            assert loop.time() - began < 5, "the receiver waited for a batch that never comes"
            for serial in (first, second):
                assert await it.va.certificate(it.own.authority_id(), serial) is not None
            ids = {entry.authority_id for batch in it.calls.batches for entry in batch.entries}
            assert ids == {it.own.authority_id()}

    run(scenario())


def test_status_only_publishes_no_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("status",)) as it:
            serial = await it.issue(1)
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            record = await it.va.certificate(it.own.authority_id(), serial)
            assert record is not None
            assert (record.der, record.subject) == (b"", "")
            assert record.status is CertificateStatus.GOOD
            assert await it.va.latest_crl(it.own.authority_id()) is None

    run(scenario())


@pytest.mark.parametrize("content", [("status",), ("certificate", "status")])
def test_only_revoked_publishes_what_was_ever_revoked(
    tmp_path: Path, content: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=content, only_revoked=True) as it:
            good, revoked, released = [await it.issue(number) for number in range(1, 4)]
            steps = ((revoked, "superseded"), (released, "certificate_hold"))
            for serial, reason in (*steps, (released, "remove_from_crl")):
                order = RevocationOrder(reason=reason)
                await it.own.service.revoke_locally("issuing", serial, order, caller="local")
            await it.caught_up()
            assert await it.va.certificate(it.own.authority_id(), good) is None
            for serial, status in ((revoked, "revoked"), (released, "good")):
                record = await it.va.certificate(it.own.authority_id(), serial)
                assert record is not None
                assert record.status.value == status
                assert bool(record.der) is ("certificate" in content)
                assert record.fingerprint_sha256

    run(scenario())


def test_options_that_change_send_what_was_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("status",), only_revoked=True) as it:
            serial = await it.issue(1)
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            assert await it.va.certificate(it.own.authority_id(), serial) is None
            for content in (("status",), ("certificate", "status", "crl")):
                await it.republish(content=content)
                await it.caught_up()
                record = await it.va.certificate(it.own.authority_id(), serial)
                assert record is not None
                assert bool(record.der) is ("certificate" in content)
            assert await it.va.latest_crl(it.own.authority_id()) is not None
            # What was there already did not go into the VA's own log again.
            kinds = sorted(entry.kind.value for entry in await it.va.changes(0, limit=100))
            assert kinds == ["authority", "certificate", "certificate", "crl"]

    run(scenario())


def test_a_va_is_told_what_its_silence_means(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(publishing_module, "_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(publishing_module, "_ASK_AGAIN_SECONDS", 0.0)

    async def scenario() -> None:
        async with publishing(tmp_path, only_revoked=True) as it:
            await it.caught_up()
            known = it.calls.known.named("issuing")
            assert known is not None
            assert known.is_partial
            assert known.path == (NODE.uri,)
            await it.republish(only_revoked=False)
            while known is not None and known.is_partial:
                await asyncio.sleep(0.01)
                known = it.calls.known.named("issuing")

    run(scenario())


def test_crl_only_publishes_no_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("crl",)) as it:
            serial = await it.issue(1)
            await it.own.crls.make_if_due("issuing")
            await it.caught_up()
            assert await it.va.certificate(it.own.authority_id(), serial) is None
            assert await it.va.latest_crl(it.own.authority_id()) is not None

    run(scenario())


def test_peer_that_was_not_told_of_entries_of_others_is_not_taken_for_set_back(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(publishing_module, "_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(publishing_module, "_ASK_AGAIN_SECONDS", 0.0)

    async def scenario() -> None:
        async with publishing(tmp_path, content=("crl",)) as it:
            await it.caught_up()
            await it.issue(1)
            await it.caught_up()
            asked = it.calls.asked
            while it.calls.asked < asked + 3:
                await asyncio.sleep(0.01)
                assert it.publisher.snapshot().last_error is None
            assert it.publisher.snapshot().state == "up"

    run(scenario())


def test_a_lost_link_is_taken_up_where_the_receiver_stands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, cut=2) as it:
            serials = [await it.issue(number) for number in range(1, 4)]
            await it.caught_up()
            it.calls.cut = 1
            serials.append(await it.issue(4))
            await it.caught_up()
            for serial in serials:
                assert await it.va.certificate(it.own.authority_id(), serial) is not None
            assert it.publisher.snapshot().last_error is None

    run(scenario())


def test_a_long_log_travels_in_bounded_batches(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("node_agent.functions.publishing._BATCH_ENTRIES", 3)

    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            serials = [await it.issue(number) for number in range(1, 20)]
            await it.caught_up()
            assert max(len(batch.entries) for batch in it.calls.batches) <= 3
            for serial in serials:
                assert await it.va.certificate(it.own.authority_id(), serial) is not None

    run(scenario())


async def crl_at_va(it: Publishing) -> bytes:
    record = await it.va.latest_crl(it.own.authority_id())
    assert record is not None
    assert record.content is not None
    assert record.der == b""
    return await it.va.crl_der(record)


async def crl_at_ca(it: Publishing) -> bytes:
    record = await it.own.store.latest_crl(it.own.authority_id())
    assert record is not None
    return await it.own.store.crl_der(record)


def test_a_long_crl_travels_in_pieces(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            await put_certificates(it.own.store, it.own.authority_id(), 8_000)
            await it.own.crls.make("issuing")
            serial = await it.issue(1)
            await it.caught_up()
            whole = await crl_at_va(it)
            assert whole == await crl_at_ca(it)
            assert len(whole) > 512 * 1024
            assert max(len(entry.payload) for b in it.calls.batches for entry in b.entries) < 5000
            assert await it.va.certificate(it.own.authority_id(), serial) is not None
            assert [request.offset for request in it.calls.contents] == [0, 0]

    run(scenario())


def test_a_long_crl_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            await put_certificates(it.own.store, it.own.authority_id(), 16_000)
            it.calls.cut_after = 1_100_000
            await it.own.crls.make("issuing")
            await it.caught_up()
            assert await crl_at_va(it) == await crl_at_ca(it)
            offsets = [request.offset for request in it.calls.contents]
            assert offsets[:2] == [0, 0]
            assert offsets[-1] == 4 * 256 * 1024

    run(scenario(), timeout_seconds=60)


def test_a_revocation_overtakes_a_long_crl(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            serial = await it.issue(1)
            await put_certificates(it.own.store, it.own.authority_id(), 8_000)
            it.calls.gate.clear()
            await it.own.crls.make("issuing")
            await it.calls.sending.wait()
            order = RevocationOrder(reason="superseded")
            await it.own.service.revoke_locally("issuing", serial, order, caller="local")
            while True:
                record = await it.va.certificate(it.own.authority_id(), serial)
                if record is not None and record.status is CertificateStatus.REVOKED:
                    break
                await asyncio.sleep(0.01)
            assert await it.va.latest_crl(it.own.authority_id()) is None
            assert it.publisher.snapshot().lag_entries > 0
            it.calls.gate.set()
            await it.caught_up()
            assert await crl_at_va(it) == await crl_at_ca(it)

    run(scenario())


def test_what_goes_down_the_lane_of_crls_says_nothing_of_how_fresh_statuses_are(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, content=("crl",)) as it:
            await it.own.crls.make("issuing")
            await it.caught_up()
            assert await it.va.latest_crl(it.own.authority_id()) is not None
            assert it.calls.receiver.feeds.age_seconds("issuing") is None

    run(scenario())


def test_a_long_crl_that_was_replaced_is_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path, cut=10_000) as it:
            await put_certificates(it.own.store, it.own.authority_id(), 8_000)
            for _ in range(4):
                await it.own.crls.make("issuing")
            it.calls.cut = 0
            await it.caught_up()
            assert await crl_at_va(it) == await crl_at_ca(it)
            assert {request.number for request in it.calls.contents} == {3, 4}

    run(scenario())


def test_a_crl_of_an_older_version_is_sent_in_pieces_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            await put_certificates(it.own.store, it.own.authority_id(), 8_000)
            with monkeypatch.context() as patch:
                patch.setattr("node_agent.functions.crl_content.INLINE_OCTETS", 1 << 30)
                await it.own.crls.make("issuing")
            await it.caught_up()
            assert await crl_at_va(it) == await crl_at_ca(it)

    run(scenario())


def test_another_set_of_cas_or_content_starts_from_the_beginning() -> None:
    ids = {"a": "1", "b": "2"}

    def source(**fields: Any) -> str:
        spec = PublisherSpec(
            name="p", peer="spiffe://test.example/node/va1", **{"authorities": ("a",), **fields}
        )
        return source_name(NODE.uri, b"log", spec, ids)

    assert source() == source()
    assert source().startswith(f"{NODE.uri}#")
    others = (source(authorities=("a", "b")), source(content=("crl",)), source(only_revoked=True))
    assert len({source(), *others}) == 4


def test_lag_is_the_age_of_what_waits_and_not_of_what_waited(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with publishing(tmp_path) as it:
            await it.issue(1)
            await it.caught_up()
            it.own.clock.advance(3600)
            await it.issue(2)
            await it.caught_up()
            now = it.publisher.snapshot()
            assert (now.lag_entries, now.lag_seconds) == (0, 0.0)
            for lane in it.publisher._lanes:
                oldest = lane._oldest_waiting_at
                assert oldest is None or oldest >= it.own.clock.now() - 1

    run(scenario())
