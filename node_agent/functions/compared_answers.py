"""What a peer answers in a comparison, held to what it was asked: it may be broken, or not ours.

Each answer is well-formed, or it wouldn't have been decoded. Whether it answers the question is
looked at here, before anything is made of it: as many digests as were asked for, serials that go
on, no more of them than a store can have. Everything else is a RemoteError of that peer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.errors import RemoteError
from node_agent.functions.range_digests import DIGEST_OCTETS, FANOUT
from node_agent.peers.operations import serial_number, serial_octets
from node_agent.store.digests import bucket_of
from node_agent.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.peers.operations import (
        ComparedEntry,
        DigestsAnswer,
        EntriesAnswer,
        RepairAnswer,
        RepairRequest,
    )

__all__ = ["TheirEntries", "check_repair", "digests_of"]

# In a store of a hundred million certificates the leaves that are asked for at once have 200,000.
_MOST_ENTRIES: Final = 500_000
# An honest page has 10,000 entries, or is the last one.
_MOST_PAGES: Final = 500


def digests_of(peer: str, prefixes: Sequence[str], answer: DigestsAnswer) -> tuple[bytes, ...]:
    """Return the digests below each of ``prefixes``. Raises RemoteError for other ones."""
    if len(answer.digests) != len(prefixes):
        raise _unfit(peer, f"{len(answer.digests)} digests for {len(prefixes)} nodes")
    if any(len(digests) != FANOUT * DIGEST_OCTETS for digests in answer.digests):
        raise _unfit(peer, "digests of another length")
    return answer.digests


def check_repair(peer: str, request: RepairRequest, answer: RepairAnswer) -> int:
    """Return how many rows were repaired. Raises RemoteError for more than were asked for."""
    asked = len(request.entries) + len(request.surplus)
    if not 0 <= answer.repaired <= asked:
        raise _unfit(peer, f"{answer.repaired} repaired rows of {asked}")
    return answer.repaired


class TheirEntries:
    """The entries that a peer has in some leaves, taken in page by page."""

    def __init__(self, peer: str, buckets: Iterable[int]) -> None:
        self._peer = peer
        self._buckets = frozenset(buckets)
        self._pages = 0
        self._last = 0
        self.found: dict[int, ComparedEntry] = {}

    @property
    def after(self) -> bytes:
        """Behind which serial number to go on."""
        return serial_octets(self._last)

    def add(self, answer: EntriesAnswer) -> None:
        """Take in what was answered behind ``after``. Raises RemoteError for what doesn't fit."""
        self._pages += 1
        if answer.has_more and not answer.entries:
            raise _unfit(self._peer, "more entries, and none of them")
        for entry in answer.entries:
            serial = serial_number(entry.serial)
            if serial <= self._last:
                raise _unfit(self._peer, "serial numbers that don't go on")
            if bucket_of(serial) not in self._buckets:
                raise _unfit(self._peer, "serial numbers that weren't asked for")
            self._last = serial
            self.found[serial] = entry
        if len(self.found) > _MOST_ENTRIES or self._pages > _MOST_PAGES:
            raise _unfit(self._peer, "entries without end")


def _unfit(peer: str, what: str) -> RemoteError:
    return RemoteError(f"{peer} answers {what}", status=Status.INTERNAL, problem="bad-answer")
