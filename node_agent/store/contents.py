"""Long CRLs in pieces: written piece by piece before their row, read piece by piece after it.

A million entries are some 40 MB, and nobody should have to hold them: not the CA that makes the
list, not the VA that takes it in, not a thread that serves it. Pieces are filed under the digest of
the whole, so a transfer that was cut goes on behind what is stored, and a repeat changes nothing.
Pieces mean nothing by themselves: a CRL exists once its row is committed, and that row is refused
unless the pieces make up what it says.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from node_agent.errors import Conflict, NotFound
from node_agent.store.schema import crl_chunks, crls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from node_agent.store.records import CrlContent, CrlRecord
    from node_agent.store.transaction import Needs, Transaction

__all__ = [
    "CHUNK_OCTETS",
    "ContentReader",
    "DropChunks",
    "PutChunks",
    "check_content",
    "drop_superseded",
]

ResultT = TypeVar("ResultT")

CHUNK_OCTETS: Final = 256 * 1024
"""Every piece but the last. A database that holds pieces of another size would be misread."""

_WEIGHT: Final = 500
"""A piece weighs in a batch of writes as this many rows: some 5 MiB share a transaction."""


@dataclass(frozen=True, slots=True)
class PutChunks:
    """Pieces of a CRL from piece number ``first`` on; those that are stored already are left."""

    authority_id: str
    sha256: bytes
    first: int
    chunks: Sequence[bytes]

    @property
    def weight(self) -> int:
        """Return about how many rows the pieces weigh."""
        return max(1, len(self.chunks)) * _WEIGHT

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand."""

    def stage(self, transaction: Transaction) -> int:
        """Append what is missing; return how many pieces there are.

        Raises Conflict when pieces before the first of these are missing.
        """
        held = _count(transaction, self.authority_id, self.sha256)
        if self.first > held:
            raise Conflict(f"piece {self.first} of a CRL came before piece {held}")
        if not held:
            _drop_leftovers(transaction, self.authority_id)
        rows = [
            (self.authority_id, self.sha256, self.first + index, chunk)
            for index, chunk in enumerate(self.chunks)
            if self.first + index >= held
        ]
        if rows:
            transaction.bulk.insert(transaction.connection, crl_chunks, rows)
        return held + len(rows)


@dataclass(frozen=True, slots=True)
class DropChunks:
    """Forget pieces that turned out not to be what they were said to be."""

    authority_id: str
    sha256: bytes
    weight: int = 1

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand."""

    def stage(self, transaction: Transaction) -> None:
        """Drop them, unless a CRL consists of them."""
        kept = sa.select(crls.c.content_sha256).where(
            crls.c.authority_id == self.authority_id, crls.c.content_sha256 == self.sha256
        )
        transaction.connection.execute(
            crl_chunks.delete().where(*_of(self.authority_id, self.sha256), ~kept.exists())
        )


class ContentReader:
    """The part of a reader that reads pieces."""

    @abstractmethod
    async def _read(self, work: Callable[[sa.Connection], ResultT]) -> ResultT:
        """Run ``work`` on a connection, away from the event loop."""

    async def crl_der(self, crl: CrlRecord) -> bytes:
        """Return a whole CRL in memory. Raises NotFound when a newer one has replaced it."""
        if crl.content is None:
            return crl.der
        return b"".join([piece async for piece in self.crl_pieces(crl)])

    async def crl_pieces(self, crl: CrlRecord, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a CRL from ``offset`` on, in pieces of at most 256 KiB.

        Raises NotFound when a newer CRL has replaced it meanwhile.
        """
        content = crl.content
        if content is None:
            for start in range(offset, len(crl.der), CHUNK_OCTETS):
                yield crl.der[start : start + CHUNK_OCTETS]
            return
        while offset < content.octets:
            ordinal, skip = divmod(offset, CHUNK_OCTETS)
            piece = await self._chunk(crl.authority_id, content.sha256, ordinal)
            yield piece[skip:] if skip else piece
            offset += len(piece) - skip

    async def held_octets(self, authority_id: str, sha256: bytes) -> int:
        """Return how much of a CRL is stored, from its beginning on."""
        statement = sa.select(sa.func.sum(sa.func.length(crl_chunks.c.data))).where(
            *_of(authority_id, sha256)
        )
        octets: int | None = await self._read(lambda connection: connection.scalar(statement))
        return int(octets or 0)

    async def _chunk(self, authority_id: str, sha256: bytes, ordinal: int) -> bytes:
        statement = sa.select(crl_chunks.c.data).where(
            *_of(authority_id, sha256), crl_chunks.c.ordinal == ordinal
        )
        data: Any = await self._read(lambda connection: connection.scalar(statement))
        if not data:
            raise NotFound("the CRL has been replaced by a newer one")
        return bytes(data)


def check_content(transaction: Transaction, authority_id: str, content: CrlContent) -> None:
    """Raise Conflict unless the pieces of ``content`` are all there."""
    octets = transaction.connection.scalar(
        sa.select(sa.func.sum(sa.func.length(crl_chunks.c.data))).where(
            *_of(authority_id, content.sha256)
        )
    )
    if int(octets or 0) != content.octets:
        raise Conflict(f"{octets or 0} of the CRL's {content.octets} octets are stored")


def drop_superseded(
    transaction: Transaction, authority_id: str, is_superseded: sa.ColumnElement[bool]
) -> None:
    """Drop the rows of ``crls`` that ``is_superseded`` names, and the pieces that only they had."""
    pieces = sa.select(crls.c.content_sha256).where(
        is_superseded, crls.c.content_sha256.is_not(None)
    )
    dropped = set(transaction.connection.scalars(pieces))
    transaction.connection.execute(crls.delete().where(is_superseded))
    for sha256 in dropped:
        DropChunks(authority_id, bytes(sha256)).stage(transaction)


def _drop_leftovers(transaction: Transaction, authority_id: str) -> None:
    """Drop what transfers left behind that never ended: at most one is kept for each CA."""
    kept = sa.select(crls.c.content_sha256).where(
        crls.c.authority_id == authority_id, crls.c.content_sha256.is_not(None)
    )
    transaction.connection.execute(
        crl_chunks.delete().where(
            crl_chunks.c.authority_id == authority_id, crl_chunks.c.content_sha256.not_in(kept)
        )
    )


def _count(transaction: Transaction, authority_id: str, sha256: bytes) -> int:
    statement = sa.select(sa.func.count()).select_from(crl_chunks)
    return int(transaction.connection.scalar(statement.where(*_of(authority_id, sha256))) or 0)


def _of(authority_id: str, sha256: bytes) -> tuple[sa.ColumnElement[bool], ...]:
    return (crl_chunks.c.authority_id == authority_id, crl_chunks.c.content_sha256 == sha256)
