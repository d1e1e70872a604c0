"""A VA believes a publisher for the CAs that it was granted, and for nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from node_agent.errors import Conflict, PolicyDenied, RequestRefused
from node_agent.functions.change_payloads import (
    AuthorityPayload,
    StatusPayload,
    decode,
    encode,
)
from node_agent.functions.known_authorities import KIND, KnownAuthorities, from_record
from node_agent.functions.provenance import KnownProvenance
from node_agent.functions.receiving import Applied, PublicationReceiver
from node_agent.functions.signal import ChangeSignal
from node_agent.peers.operations import (
    EnrollRequest,
    PositionRequest,
    PublishedEntry,
    PublishRequest,
    serial_octets,
)
from node_agent.store import Store, open_store
from tests.support.csrs import csr_der
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOURCE = "spiffe://test.example/node/ca1#log"
OWN_LOG = "spiffe://test.example/node/va1"


@dataclasses.dataclass
class Receiving:
    """A VA's receiver with its store, and the CA that publishes to it."""

    own: OwnAuthority
    store: Store
    receiver: PublicationReceiver
    applied: list[Applied]

    async def entries(self) -> list[PublishedEntry]:
        """Return the whole log of the issuing CA as it would be published."""
        ids = [self.own.authority_id()]
        return [
            PublishedEntry(
                position=entry.position,
                kind=entry.kind,
                authority_id=entry.authority_id,
                serial=None if entry.serial is None else serial_octets(entry.serial),
                at=entry.at,
                payload=entry.payload,
            )
            for entry in await self.own.store.changes(0, limit=100, authority_ids=ids)
        ]

    async def publish(self, *entries: PublishedEntry, after: int = 0, position: int = 0) -> int:
        """Hand the receiver a batch of ca1 for the CA ``issuing``."""
        request = PublishRequest(
            source=SOURCE,
            after=after,
            position=position or max((entry.position for entry in entries), default=after),
            authorities=("issuing",),
            entries=entries,
        )
        return (await self.receiver.publish(context("ca1"), request)).position

    async def tell(self, source: str, **fields: Any) -> None:
        """Have a source say something of itself."""
        name = source.partition("#")[0].rpartition("/")[2]
        await self.receiver.position(context(name), PositionRequest(source=source, **fields))

    async def stored(self) -> tuple[bool, tuple[str, ...]]:
        """Return what the store holds of how the CA comes here."""
        (record,) = await self.store.objects(KIND)
        authority = from_record(record)
        return authority.is_partial, authority.path


@asynccontextmanager
async def receiving(directory: Path) -> AsyncIterator[Receiving]:
    """Yield a VA whose CA has one CRL in its log."""
    (directory / "va").mkdir()
    async with own_authority(directory) as own:
        await own.crls.make_if_due("issuing")
        async with open_store(f"sqlite:///{directory / 'va' / 'store.sqlite3'}") as store:
            applied: list[Applied] = []
            settled = AsyncMock()
            receiver = PublicationReceiver(
                store,
                KnownAuthorities(),
                clock=own.clock,
                changed=ChangeSignal(),
                on_applied=applied.append,
                own_log=OWN_LOG,
                settled=settled,
            )
            yield Receiving(own, store, receiver, applied)


def changed(entry: PublishedEntry, **fields: object) -> PublishedEntry:
    values = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return PublishedEntry(**{**values, **fields})


def test_a_log_is_applied_and_its_position_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            entries = await va.entries()
            assert await va.publish(*entries) == entries[-1].position
            request = PositionRequest(source=SOURCE, authorities=("issuing",))
            answer = await va.receiver.position(context("ca1"), request)
            assert answer.position == entries[-1].position
            assert await va.store.latest_crl(va.own.authority_id()) is not None
            assert [item.name for item in va.applied[0].authorities] == ["issuing"]

    run(scenario())


def test_the_same_batch_again_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            entries = await va.entries()
            first = await va.publish(*entries)
            assert await va.publish(*entries) == first
            assert await va.store.last_position() == len(entries)

    run(scenario())


def test_what_went_through_here_before_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            path = ("spiffe://test.example/node/ca1", OWN_LOG, "spiffe://test.example/node/va2")
            request = PositionRequest(source=SOURCE, authorities=("issuing",), path=path)
            with pytest.raises(Conflict, match="round in a loop"):
                await va.receiver.position(context("ca1"), request)

    run(scenario())


def test_nobody_tells_a_ca_what_it_did(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            entries = await va.entries()
            receiver = PublicationReceiver(
                va.store,
                va.own.known,
                clock=va.own.clock,
                changed=ChangeSignal(),
                on_applied=va.applied.append,
                settled=AsyncMock(),
            )
            for entry in (entries[0], entries[-1]):
                request = PublishRequest(
                    source=SOURCE, after=0, position=9, authorities=("issuing",), entries=(entry,)
                )
                with pytest.raises(PolicyDenied, match="own CA"):
                    await receiver.publish(context("ca1"), request)

    run(scenario())


def test_what_sources_say_of_themselves_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            ca, relay = (f"spiffe://test.example/node/{name}" for name in ("ca1", "va0"))
            say = {"authorities": ("issuing",), "path": (ca,)}
            await va.tell(source=f"{ca}#a", partial=("issuing",), **say)
            await va.publish(*await va.entries())
            known = va.receiver._known.named("issuing")
            assert known is not None
            assert (known.is_partial, known.path) == (True, (ca,))
            va.own.clock.advance(100)
            # Not before all was sent is silence known to mean something.
            say = {"authorities": ("issuing",), "path": (ca, relay)}
            await va.tell(source=f"{relay}#b", complete=("issuing",), **say)
            assert await va.stored() == (True, (ca, relay))
            await va.tell(source=f"{relay}#b", complete=("issuing",), age_seconds=7.0, **say)
            assert await va.stored() == (False, (ca, relay))
            assert va.receiver.feeds.age_seconds("issuing") == 7.0

    run(scenario())


def test_old_news_stay_old_when_the_clock_is_set_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            await va.publish(*await va.entries())
            say = {"authorities": ("issuing",), "complete": ("issuing",)}
            await va.tell(source=SOURCE, age_seconds=0.0, **say)
            va.own.clock.step(-3600)
            va.own.clock.advance(90)
            assert va.receiver.feeds.age_seconds("issuing") == 90
            told_on = KnownProvenance(va.receiver._known, va.receiver.feeds)
            assert told_on.age_seconds(["issuing"]) == 90
            # What was said before the step is no newer than what is said after it.
            await va.tell(source=SOURCE, age_seconds=5.0, **say)
            assert va.receiver.feeds.age_seconds("issuing") == 5

    run(scenario())


def test_a_ca_whose_clock_is_ahead_makes_nothing_fresh_in_the_future(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            csr = csr_der(names=["dns:1.example.org"])
            request = EnrollRequest(authority="issuing", profile="server", csr=csr)
            await va.own.service.enroll(context(), request)
            entries = await va.entries()
            va.own.clock.step(-3600)
            await va.publish(*entries)
            va.own.clock.advance(90)
            assert va.receiver.feeds.age_seconds("issuing") == 90

    run(scenario())


def test_a_batch_waits_for_the_one_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            first, *rest = await va.entries()
            later = asyncio.create_task(va.publish(*rest, after=first.position))
            await asyncio.sleep(0)
            assert await va.publish(first) == first.position
            assert await later == rest[-1].position

    run(scenario())


def test_a_gap_in_the_log_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.functions.receiving._ORDER_WAIT_SECONDS", 0.05)

    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            _, *rest = await va.entries()
            with pytest.raises(Conflict, match="follows 5"):
                await va.publish(*rest, after=5)

    run(scenario())


def test_nobody_moves_the_position_of_another_nodes_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            request = PublishRequest(
                source=SOURCE, after=0, position=9, authorities=("issuing",), entries=()
            )
            with pytest.raises(PolicyDenied, match="own log"):
                await va.receiver.publish(context("va2"), request)
            position = PositionRequest(source=SOURCE, authorities=("issuing",))
            with pytest.raises(PolicyDenied):
                await va.receiver.position(context("va2"), position)

    run(scenario())


def test_nodes_of_one_shared_log_go_on_where_the_other_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            entries = await va.entries()
            source = "log:0123456789abcdef#content"

            def batch(*chosen: PublishedEntry, after: int = 0) -> PublishRequest:
                return PublishRequest(
                    source=source,
                    after=after,
                    position=chosen[-1].position,
                    authorities=("issuing",),
                    entries=chosen,
                )

            first, *rest = entries
            at = first.position
            assert (await va.receiver.publish(context("ca1"), batch(first))).position == at
            wanted = PositionRequest(source=source, authorities=("issuing",))
            assert (await va.receiver.position(context("ca2"), wanted)).position == at
            await va.receiver.publish(context("ca2"), batch(*rest, after=at))
            overtaken = await va.receiver.publish(context("ca1"), batch(*entries))
            assert overtaken.position == entries[-1].position
            assert await va.store.last_position() == len(entries)
            # A peer that is granted another CA can name the log, but not move this position.
            elsewhere = PositionRequest(source=source, authorities=("other",))
            assert (await va.receiver.position(context("ca9"), elsewhere)).position == 0

    run(scenario())


def test_an_entry_for_a_ca_that_the_batch_does_not_name_is_denied(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            authority, crl = await va.entries()
            root = va.own.authorities.get("root")
            foreign = encode(AuthorityPayload("root", root.chain))
            for entry in (
                changed(crl, authority_id=root.authority_id),
                changed(authority, authority_id=root.authority_id, payload=foreign),
            ):
                with pytest.raises(PolicyDenied, match="doesn't speak for"):
                    await va.publish(authority, entry)
            assert await va.store.last_position() == 0

    run(scenario())


def test_a_ca_name_belongs_to_the_node_that_published_it_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            await va.publish(*await va.entries())
            root = va.own.authorities.get("root")
            usurping = PublishedEntry(
                position=1,
                kind="authority",
                authority_id=root.authority_id,
                serial=None,
                at=0,
                payload=encode(AuthorityPayload("issuing", root.chain)),
            )
            request = PublishRequest(
                source="spiffe://test.example/node/ca2#log",
                after=0,
                position=1,
                authorities=("issuing",),
                entries=(usurping,),
            )
            with pytest.raises(PolicyDenied, match="belongs to"):
                await va.receiver.publish(context("ca2"), request)

    run(scenario())


def test_forged_and_malformed_entries_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with receiving(tmp_path) as va:
            authority, crl = await va.entries()
            payload = decode("crl", crl.payload)
            broken = bytearray(payload.der)  # type: ignore[attr-defined]
            broken[-1] ^= 1
            forged = type(payload)(
                payload.number,  # type: ignore[attr-defined]
                payload.this_update,  # type: ignore[attr-defined]
                payload.next_update,  # type: ignore[attr-defined]
                bytes(broken),
                None,
            )
            for entry in (
                changed(crl, payload=encode(forged)),
                changed(crl, payload=b"\xc1"),
                changed(crl, kind="gift"),
                changed(crl, kind="status", payload=encode_status("lost")),
                changed(authority, authority_id="0" * 32),
                changed(authority, payload=encode(AuthorityPayload("issuing", ()))),
                *(changed(crl, kind="status", serial=b"\1", payload=it) for it in UNWRITABLE),
            ):
                with pytest.raises(RequestRefused):
                    await va.publish(authority, entry)
            assert await va.store.last_position() == 0

    run(scenario())


UNWRITABLE = [
    encode(StatusPayload("revoked", 10**17, None, None)),
    encode(StatusPayload("revoked", -1, None, None)),
    encode(StatusPayload("revoked", 1, 300, None)),
    encode(StatusPayload("revoked", 1, None, (1 << 64) - 1)),
]


def encode_status(word: str) -> bytes:
    return encode(StatusPayload(word, 0, None, None))
