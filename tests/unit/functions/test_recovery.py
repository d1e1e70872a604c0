"""A CA that was restored from an old copy signs nothing, until it knows again what it had done."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from cryptography import x509

from node_agent.clock import SystemClock
from node_agent.errors import ConfigError, Unavailable
from node_agent.functions.compared import ComparedStore
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.provenance import OwnLog
from node_agent.functions.publisher_lanes import PublisherLanes
from node_agent.functions.publishing import Publisher
from node_agent.functions.range_digests import LeafKeeper
from node_agent.functions.receiving import Applied, PublicationReceiver
from node_agent.functions.recovery import Recovery
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import PublisherSpec
from node_agent.store import Store, open_store
from node_agent.store.records import CertificateStatus
from node_agent.web.backends import RecoveryOrder, RevocationOrder
from tests.support.event_loop import run
from tests.support.own_authority import NODE, OwnAuthority, own_authority
from tests.unit.functions.test_crl_shards import authorities as divided
from tests.unit.functions.test_crl_shards import enroll
from tests.unit.functions.test_verification import ToVa

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REVOKED = CertificateStatus.REVOKED


@dataclass
class Restored:
    """A CA, a VA, and a copy of the CA's store."""

    own: OwnAuthority
    va: Store
    calls: ToVa
    path: Path
    spec: PublisherSpec
    copy: sqlite3.Connection
    publisher: PublisherLanes
    task: asyncio.Task[None]
    recovery: Recovery

    async def revoke(self, certificate: x509.Certificate, reason: str = "superseded") -> None:
        """Revoke at the CA."""
        order = RevocationOrder(reason=reason)
        serial = certificate.serial_number
        await self.own.service.revoke_locally("issuing", serial, order, caller="local")

    async def caught_up(self) -> None:
        """Wait until the VA has everything."""
        while True:
            now = self.publisher.snapshot()
            if now.state == "up" and now.position >= await self.own.store.last_position():
                return
            await self.own.changed.wait(self.own.changed.count, 0.02)

    def save(self) -> None:
        """Copy the CA's store."""
        with contextlib.closing(sqlite3.connect(self.path)) as store:
            store.backup(self.copy)

    async def restore(self) -> None:
        """Put the copy in place, and start the publisher as a new process does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        with contextlib.closing(sqlite3.connect(self.path)) as store:
            self.copy.backup(store)
        self.own.crls.made_elsewhere("issuing")
        self.start(begin=await self.own.store.last_position())

    async def noticed(self) -> None:
        """Wait until the publisher has asked its peer."""
        while not self.publisher.ahead:
            await asyncio.wait([self.task], timeout=0.02)

    def start(self, *, begin: int | None = None) -> None:
        """Start a publisher."""
        self.publisher = PublisherLanes(self.spec, lambda part: self._lane(part, begin))
        self.task = asyncio.create_task(self.publisher.run())

    def _lane(self, part: PublisherSpec, begin: int | None) -> Publisher:
        return Publisher(
            part,
            own_log=OwnLog(NODE.uri, begin=begin),
            store=self.own.store,
            caller=self.calls,
            changed=self.own.changed,
            authority_ids=self.own.known.ids_by_name,
            clock=SystemClock(),
        )


@asynccontextmanager
async def restored(directory: Path, kinds: dict[str, Any], **spec: Any) -> AsyncIterator[Restored]:
    """Yield a CA and its VA, with a publisher that runs."""
    (directory / "va").mkdir()
    async with (
        own_authority(directory, **kinds) as own,
        open_store(f"sqlite:///{directory / 'va' / 'store.sqlite3'}") as va,
    ):
        known = KnownAuthorities()
        settled = AsyncMock()
        receiver = PublicationReceiver(
            va,
            known,
            clock=SystemClock(),
            changed=ChangeSignal(),
            on_applied=_ignore,
            settled=settled,
        )
        compared = ComparedStore(va, known, LeafKeeper(va), on_applied=_ignore, settled=settled)
        calls = ToVa(receiver, compared)
        verification = own.verification(calls)
        publishers: list[PublisherLanes] = []
        recovery = Recovery(
            store=own.store,
            authorities=own.authorities,
            known=own.known,
            verification=verification,
            publishers=lambda: publishers,
            crls=own.crls,
            changed=own.changed,
            clock=own.clock,
        )
        own.authorities._check = recovery.check
        peer = "spiffe://test.example/node/va1"
        wanted = PublisherSpec(name="va1", peer=peer, authorities=("issuing",), **spec)
        copy = sqlite3.connect(":memory:")
        path = directory / "store.sqlite3"
        it = Restored(own, va, calls, path, wanted, copy, None, None, recovery)  # type: ignore[arg-type]
        it.start()
        publishers.append(it.publisher)
        try:
            yield it
        finally:
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)
            copy.close()


def _ignore(applied: Applied) -> None:
    """Nothing keeps answers here."""


@asynccontextmanager
async def set_back(directory: Path, **spec: Any) -> AsyncIterator[tuple[Restored, Any]]:
    """Yield a CA that was restored, and what it has forgotten: a certificate that it issued, one
    that it issued and revoked, and that it revoked an older one.
    """
    async with restored(directory, divided(2), **spec) as it:
        await it.own.crls.make_if_due("issuing")
        old = await enroll(it.own, 1)
        await it.caught_up()
        it.save()
        lost = [await enroll(it.own, number) for number in (2, 3)]
        await it.revoke(lost[1])
        await it.revoke(old, "keyCompromise")
        await it.own.crls.make_if_due("issuing")
        await it.caught_up()
        await it.restore()
        it.recovery._publishers = lambda: [it.publisher]
        await it.noticed()
        yield it, (old, *lost)


def test_a_restored_ca_signs_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with set_back(tmp_path) as (it, _):
            with pytest.raises(Unavailable, match="peersys recover"):
                await enroll(it.own, 9)
            with pytest.raises(Unavailable, match="peersys recover"):
                await it.own.crls.make("issuing")
            assert "old copy" in (it.publisher.snapshot().last_error or "")

    run(scenario())


def test_what_its_va_has_is_read_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with set_back(tmp_path) as (it, (old, good, revoked)):
            seen = await it.va.source_position(it.publisher._lanes[0]._source())
            planned = await it.recovery.recover(RecoveryOrder(dry_run=True), caller="test")
            assert it.publisher.ahead
            report = await it.recovery.recover(RecoveryOrder(), caller="test")
            assert it.publisher.snapshot().last_error is None
            assert replace_dry_run(planned) == report
            (found,) = report.authorities
            assert (found.certificates, found.statuses, found.listed) == (2, 2, ())
            statuses = {}
            for certificate in (old, good, revoked):
                serial = certificate.serial_number
                record = await it.own.store.certificate(it.own.authority_id(), serial)
                assert record is not None
                assert record.crl_shard == serial % 2 + 1
                statuses[serial] = record.status
            assert list(statuses.values()) == [REVOKED, CertificateStatus.GOOD, REVOKED]
            assert report.position >= seen
            entries = await it.own.store.changes(report.position_before, limit=100)
            assert min(entry.position for entry in entries) > seen
            assert (await it.own.store.verify_audit()).ok

    run(scenario())


def replace_dry_run(report: Any) -> Any:
    return msgspec.structs.replace(report, dry_run=False)


def test_a_recovered_ca_goes_on_and_its_crls_are_newer_and_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with set_back(tmp_path) as (it, (old, _, revoked)):
            identifier = it.own.authority_id()
            before = await it.va.crl_numbers(identifier)
            await it.recovery.recover(RecoveryOrder(), caller="test")
            await it.own.crls.make_if_due("issuing")
            fresh = await enroll(it.own, 4)
            await it.caught_up()
            after = await it.va.crl_numbers(identifier)
            assert all(after[shard, False] > before[shard, False] for shard in (1, 2))
            for certificate in (old, revoked):
                shard = certificate.serial_number % 2 + 1
                record = await it.va.latest_crl(identifier, shard=shard)
                assert record is not None
                crl = x509.load_der_x509_crl(record.der)
                assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
            assert await it.va.certificate(identifier, fresh.serial_number) is not None
            assert not it.publisher.ahead

    run(scenario())


def test_certificates_that_a_va_of_statuses_doesnt_have_are_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with set_back(tmp_path, content=("status",)) as (it, (_, good, revoked)):
            report = await it.recovery.recover(RecoveryOrder(), caller="test")
            (found,) = report.authorities
            serials = sorted((good.serial_number, revoked.serial_number))
            assert found.listed == tuple(f"{serial:x}" for serial in serials)
            assert (found.certificates, found.statuses) == (0, 2)
            record = await it.own.store.certificate(it.own.authority_id(), revoked.serial_number)
            assert record is not None
            assert record.status is REVOKED

    run(scenario())


def test_a_va_invents_no_certificate_and_releases_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with set_back(tmp_path) as (it, (old, good, _)):
            identifier = it.own.authority_id()
            row = await it.va.certificate(identifier, good.serial_number)
            assert row is not None
            forged = replace(row, serial=12345)
            await it.va.apply_published("x", 1, certificates=[forged])
            await it.revoke(old)
            with it.va._writing.begin() as connection:
                connection.exec_driver_sql("UPDATE certificates SET status = 'good'")
                connection.exec_driver_sql(
                    "UPDATE certificates SET status = 'revoked', revoked_at = 5, "
                    "invalidity_at = ? WHERE serial = ?",
                    (10**17, good.serial_number.to_bytes(20, "big")),
                )
            report = await it.recovery.recover(RecoveryOrder(), caller="test")
            assert report.authorities[0].listed == ("3039",)
            assert await it.own.store.certificate(identifier, 12345) is None
            record = await it.own.store.certificate(identifier, old.serial_number)
            assert record is not None
            assert record.status is REVOKED
            told = await it.own.store.certificate(identifier, good.serial_number)
            assert told is not None
            assert (told.status, told.invalidity_at) == (REVOKED, None)

    run(scenario())


def test_an_operator_says_what_nobody_else_knows(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with restored(tmp_path, divided(2)) as it:
            order = RecoveryOrder(position=5000, crl_numbers={"issuing": 120})
            report = await it.recovery.recover(order, caller="test")
            assert (report.position, report.peers) == (5000, ())
            for shard in range(3):
                assert (await it.own.crls.make("issuing", shard=shard)).number == 121
            entries = await it.own.store.changes(5000, limit=10)
            assert [entry.position for entry in entries] == [5001, 5002, 5003]
            with pytest.raises(ConfigError, match="position"):
                await it.recovery.recover(RecoveryOrder(position=1 << 60), caller="test")

    run(scenario())


def test_what_was_recorded_before_the_first_answer_doesnt_hide_the_old_copy(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with restored(tmp_path, divided(0)) as it:
            await it.caught_up()
            it.save()
            await enroll(it.own, 1)
            await it.caught_up()
            for number in (2, 3, 4):
                await enroll(it.own, number)
            begin = (await it.own.store.last_position()) - 4
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)
            it.start(begin=begin)
            it.recovery._publishers = lambda: [it.publisher]
            await it.noticed()
            with pytest.raises(Unavailable):
                await enroll(it.own, 5)

    run(scenario())


@pytest.mark.parametrize("begin", [None, 0], ids=["running", "just started"])
def test_a_va_that_only_says_that_it_knows_more_stops_nothing(
    tmp_path: Path, begin: int | None
) -> None:
    """A taken-over VA may say so at any time. It has no receipt for what it was never sent."""

    async def scenario() -> None:
        async with restored(tmp_path, divided(0)) as it:
            await enroll(it.own, 1)
            await it.caught_up()
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)
            source = it.publisher._lanes[0]._source()
            position, receipt = await it.va.source_receipt(source)
            assert position
            # An older receipt is one for an older position.
            await it.va.apply_published(source, position + 10_000, receipt=receipt)
            it.start(begin=await it.own.store.last_position() if begin == 0 else None)
            while "proves it with nothing" not in (it.publisher.snapshot().last_error or ""):
                await asyncio.wait([it.task], timeout=0.02)
            assert not it.publisher.ahead
            assert await enroll(it.own, 2)
            await it.own.crls.make("issuing")
            await asyncio.wait([it.task], timeout=1)  # it asks again, and writes nothing more
            entries = await it.own.store.audit_entries(limit=1000)
            (claim,) = [item.record for item in entries if item.record.action == "publish.position"]
            assert not claim.allowed
            assert claim.detail["peer"] == it.spec.peer

    run(scenario())
