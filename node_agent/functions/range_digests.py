"""A tree of digests over the certificates of one CA, and how its leaves are kept up to date.

The leaves are the store's buckets: two octets of the serial number, so at most 65,536. Each node
above has sixteen children and is the SHA-256 of theirs; one without entries is zeros. Where two
trees differ is found from the root downward, so what is exchanged grows with the differences: for
each, at most four nodes of sixteen digests, whatever the size of the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from node_agent.store.digests import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.api import Reader, Writer

__all__ = ["DEPTH", "DIGEST_OCTETS", "FANOUT", "DigestTree", "LeafKeeper", "read_tree"]

DEPTH: Final = 4
FANOUT: Final = 16
DIGEST_OCTETS: Final = 32

_EMPTY: Final = bytes(DIGEST_OCTETS)
_EMPTY_NODE: Final = bytes(DIGEST_OCTETS * FANOUT)
# Some 2,000 rows to read and hash in the writer: other writes wait no longer than for 20 ms.
_BUCKETS_AT_ONCE: Final = 64


class DigestTree:
    """Levels from the root's children to the leaves, each a string of digests."""

    def __init__(self, leaves: bytearray, entries: int) -> None:
        self.entries = entries
        levels = [bytes(leaves)]
        while len(levels[0]) > DIGEST_OCTETS * FANOUT:
            levels.insert(0, _level_above(levels[0]))
        self._levels = levels

    def children(self, prefix: str) -> bytes:
        """Return the digests below a node; ``prefix`` is up to three hexadecimal digits."""
        index = int(prefix, 16) if prefix else 0
        size = DIGEST_OCTETS * FANOUT
        return self._levels[len(prefix)][index * size : (index + 1) * size]


def _level_above(level: bytes) -> bytes:
    size = DIGEST_OCTETS * FANOUT
    nodes = (level[start : start + size] for start in range(0, len(level), size))
    return b"".join(
        _EMPTY if node == _EMPTY_NODE else hashlib.sha256(node).digest() for node in nodes
    )


async def read_tree(
    store: Reader, authority_id: str, content: Sequence[str], *, only_changed: bool = False
) -> DigestTree:
    """Return the tree over what ``content`` (of a publisher) lets the other side know; with
    ``only_changed``, of certificates whose status ever changed.
    """
    rows = await store.leaves(authority_id, only_changed=only_changed)
    return await asyncio.to_thread(_build, rows, "status" in content, "certificate" in content)


def _build(
    rows: list[tuple[int, bytes, bytes, int]], has_status: bool, has_certificate: bool
) -> DigestTree:
    leaves = bytearray(BUCKETS * DIGEST_OCTETS)
    entries = 0
    for bucket, statuses, certificates, count in rows:
        parts = (statuses if has_status else b"") + (certificates if has_certificate else b"")
        start = bucket * DIGEST_OCTETS
        leaves[start : start + DIGEST_OCTETS] = hashlib.sha256(parts).digest()
        entries += count
    return DigestTree(leaves, entries)


class LeafKeeper:
    """Makes leaves anew that are out of date: when a comparison asks, in small writes."""

    def __init__(self, store: Writer) -> None:
        self._store = store
        self._one_at_a_time = asyncio.Lock()

    async def refresh(self) -> None:
        """Return once the leaves are those of the rows as they were when this was called."""
        async with self._one_at_a_time:
            while True:
                pending = await self._store.pending_leaves()
                for authority_id, buckets in pending.buckets.items():
                    for start in range(0, len(buckets), _BUCKETS_AT_ONCE):
                        some = buckets[start : start + _BUCKETS_AT_ONCE]
                        await self._store.refresh_leaves(authority_id, some)
                if pending.buckets:
                    await self._store.cover_leaves(pending)
                if not pending.has_more:
                    return

    async def forget(self) -> None:
        """Have all of them made anew at the next ``refresh``."""
        await self._store.forget_leaves()
