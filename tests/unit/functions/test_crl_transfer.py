"""Long CRLs as a hostile CA would send them: refused before they fill anything."""

from __future__ import annotations

import hashlib
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.errors import Conflict, PolicyDenied, RequestRefused
from node_agent.functions.crl_transfer import INLINE_OCTETS, MOST_OCTETS, ContentReceiver
from node_agent.peers.operations import ContentRequest
from node_agent.store.contents import CHUNK_OCTETS
from node_agent.store.records import CrlContent, CrlRecord
from tests.support.event_loop import run
from tests.support.own_authority import OwnAuthority, context, own_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SIZE = INLINE_OCTETS + 3 * CHUNK_OCTETS + 17


@dataclass
class Transfer:
    """A receiver, and what is announced to it."""

    own: OwnAuthority
    receiver: ContentReceiver

    def announce(self, **changed: Any) -> ContentRequest:
        """Return the announcement of a list of zeros."""
        fields = {
            "authority": "issuing",
            "authority_id": self.own.authority_id(),
            "number": 7,
            "is_delta": False,
            "shard": 0,
            "sha256": hashlib.sha256(bytes(SIZE)).digest(),
            "octets": SIZE,
            "offset": 0,
        }
        return ContentRequest(**{**fields, **changed})

    async def send(self, request: ContentRequest, octets: int) -> int:
        """Send so many zeros; return how much is stored then."""

        async def body() -> AsyncIterator[bytes]:
            for start in range(0, octets, 50_000):
                yield bytes(min(50_000, octets - start))

        asked = replace(context("ca1"), body=body())
        return (await self.receiver.receive(asked, request)).held

    async def stored(self, request: ContentRequest) -> int:
        """Return how much of it is in the store."""
        return await self.own.store.held_octets(request.authority_id, request.sha256)


@asynccontextmanager
async def transfer(directory: Path) -> AsyncIterator[Transfer]:
    async with own_authority(directory) as own:
        yield Transfer(own, ContentReceiver(own.store, own.known))


@pytest.mark.parametrize(
    "changed",
    [
        {"octets": MOST_OCTETS + 1},
        {"octets": 1 << 62},
        {"octets": INLINE_OCTETS},
        {"octets": -1},
        {"offset": 1},
        {"offset": -CHUNK_OCTETS},
        {"offset": 64 * CHUNK_OCTETS},
        {"sha256": b"short"},
    ],
    ids=str,
)
def test_an_impossible_announcement_is_refused_before_anything_is_stored(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with transfer(tmp_path) as it:
            request = it.announce(**changed)
            with pytest.raises(RequestRefused):
                await it.send(request, SIZE)
            assert await it.stored(request) == 0

    run(scenario())


def test_a_ca_of_another_name_is_denied(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with transfer(tmp_path) as it:
            for changed in ({"authority": "root"}, {"authority_id": "0" * 32}):
                with pytest.raises(PolicyDenied):
                    await it.send(it.announce(**changed), SIZE)

    run(scenario())


def test_more_than_was_announced_ends_the_transfer_in_flat_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with transfer(tmp_path) as it:
            request = it.announce()
            tracemalloc.start()
            try:
                with pytest.raises(RequestRefused, match="more follows"):
                    await it.send(request, 1 << 40)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert await it.stored(request) <= SIZE
            assert peak < 16 * CHUNK_OCTETS

    run(scenario())


def test_pieces_with_a_gap_before_them_wait_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with transfer(tmp_path) as it:
            with pytest.raises(Conflict):
                await it.send(it.announce(offset=CHUNK_OCTETS), SIZE - CHUNK_OCTETS)
            assert await it.send(it.announce(), CHUNK_OCTETS + 5) == CHUNK_OCTETS
            request = it.announce(offset=CHUNK_OCTETS)
            assert await it.send(request, SIZE - CHUNK_OCTETS) == SIZE
            assert await it.send(it.announce(), 0) == SIZE, "what is here needs no repetition"

    run(scenario())


@pytest.mark.parametrize("digest", ["of it", "of another"])
def test_what_is_no_crl_of_the_ca_is_forgotten_whole(tmp_path: Path, digest: str) -> None:
    async def scenario() -> None:
        async with transfer(tmp_path) as it:
            sha256 = hashlib.sha256(bytes(SIZE if digest == "of it" else 1)).digest()
            request = it.announce(sha256=sha256)
            record = CrlRecord(
                authority_id=request.authority_id,
                number=7,
                der=b"",
                this_update=1,
                next_update=2,
                content=CrlContent(sha256=sha256, octets=SIZE),
            )
            known = it.own.known.named("issuing")
            assert known is not None
            with pytest.raises(Conflict):
                await it.receiver.check(known, record)
            assert await it.send(request, SIZE) == SIZE
            with pytest.raises(RequestRefused):
                await it.receiver.check(known, record)
            assert await it.stored(request) == 0

    run(scenario())
