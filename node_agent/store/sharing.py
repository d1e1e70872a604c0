"""What several nodes on one store agree on through it: who is there, and whose turn it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from node_agent.errors import Conflict
from node_agent.store.records import NodeRecord, PublisherMark
from node_agent.store.schema import log_heads, nodes, publisher_positions

if TYPE_CHECKING:
    from node_agent.store.transaction import Needs, Transaction

__all__ = ["JoinStore", "KeepTurn", "RenewLog", "TakeTurn"]


class _Light:
    """A write of a row that looks at nothing beforehand."""

    __slots__ = ()

    @property
    def weight(self) -> int:
        return 1

    def needs(self, needs: Needs) -> None:
        return


@dataclass(frozen=True, slots=True)
class JoinStore(_Light):
    """A node starts on this store. Where there are several, each needs the shared passphrase."""

    name: str
    shares_passphrase: bool

    def stage(self, transaction: Transaction) -> list[NodeRecord]:
        """Note it; return every node, this one as it now is. Raises Conflict when some node has no
        shared passphrase but should.
        """
        self._check(_nodes(transaction))
        values = {
            "shares_passphrase": int(self.shares_passphrase),
            "started_at": transaction.now,
        }
        mine = nodes.c.name == self.name
        if transaction.connection.execute(nodes.update().where(mine).values(values)).rowcount == 0:
            transaction.connection.execute(nodes.insert().values(name=self.name, **values))
        return _nodes(transaction)

    def _check(self, known: list[NodeRecord]) -> None:
        others = [node for node in known if node.name != self.name]
        lacking = [node.name for node in others if not node.shares_passphrase]
        if others and not self.shares_passphrase:
            raise Conflict(
                f"{', '.join(node.name for node in others)} and {self.name} share this store: the "
                "keys of its CAs need a passphrase of their own, the same at each node; set "
                "shared_passphrase_file or shared_passphrase_credential"
            )
        if lacking:
            raise Conflict(
                f"{', '.join(lacking)} uses this store without a shared passphrase; set one there "
                "first: the one that its keys are under already"
            )


@dataclass(frozen=True, slots=True)
class TakeTurn(_Light):
    """``node`` wants to run a publisher that, when last looked at, stood at ``seen``."""

    publisher: str
    node: str
    seen: PublisherMark

    def stage(self, transaction: Transaction) -> PublisherMark:
        """Give it the turn unless something has moved since; return how it stands now."""
        mark = _mark(transaction, self.publisher)
        if mark != self.seen:
            return mark
        taken = PublisherMark(position=mark.position, holder=self.node, beat=mark.beat + 1)
        _put(transaction, self.publisher, taken)
        return taken


@dataclass(frozen=True, slots=True)
class KeepTurn(_Light):
    """``node`` has run a publisher up to ``position`` and goes on."""

    publisher: str
    node: str
    position: int

    def stage(self, transaction: Transaction) -> PublisherMark:
        """Note the position, whoever has the turn; count a beat if it is this node."""
        mark = _mark(transaction, self.publisher)
        kept = PublisherMark(
            position=max(mark.position, self.position),
            holder=mark.holder,
            beat=mark.beat + (mark.holder == self.node),
        )
        _put(transaction, self.publisher, kept)
        return kept


@dataclass(frozen=True, slots=True)
class RenewLog(_Light):
    """The change log was set back: those who read it must not take it for the one they know."""

    seen: bytes

    def stage(self, transaction: Transaction) -> bytes:
        """Give it another random name, unless somebody did; return the name that it has now."""
        known = bytes(transaction.connection.scalar(sa.select(log_heads.c.log_id)) or b"")
        if known != self.seen:
            return known
        name = os.urandom(16)
        transaction.connection.execute(log_heads.update().values(log_id=name))
        return name


def _nodes(transaction: Transaction) -> list[NodeRecord]:
    rows = transaction.connection.execute(sa.select(nodes).order_by(nodes.c.name)).all()
    return [
        NodeRecord(name=row[0], shares_passphrase=bool(row[1]), started_at=row[2]) for row in rows
    ]


def _mark(transaction: Transaction, publisher: str) -> PublisherMark:
    row = transaction.connection.execute(
        sa.select(publisher_positions).where(publisher_positions.c.publisher == publisher)
    ).one_or_none()
    if row is None:
        return PublisherMark()
    return PublisherMark(position=row.position, holder=row.holder, beat=row.beat)


def _put(transaction: Transaction, publisher: str, mark: PublisherMark) -> None:
    values = {"position": mark.position, "holder": mark.holder, "beat": mark.beat}
    same = publisher_positions.c.publisher == publisher
    done = transaction.connection.execute(publisher_positions.update().where(same).values(values))
    if done.rowcount == 0:
        transaction.connection.execute(
            publisher_positions.insert().values(publisher=publisher, **values)
        )
