"""Enrolments that wait for approvals: opened, approved, ended; each step one transaction.

Every step is decided under the writers' lock against what is stored then, so that two approvals, an
approval and a rejection, or two nodes that issue at the same instant come one after the other. A
request that waits is only ever ended once. That its time is over needs no step: it is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa

from node_agent.errors import Conflict, NotFound
from node_agent.store.records import (
    ApprovalQuery,
    ApprovalRecord,
    ApprovalState,
    AuditRecord,
    CertificateRecord,
    Vote,
)
from node_agent.store.schema import approval_requests, approvals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = [
    "MOST_OF_REQUESTER",
    "MOST_WAITING",
    "REMEMBERED_SECONDS",
    "AddVote",
    "EndApproval",
    "OpenApproval",
    "approval_of_row",
    "approvals_statement",
    "check_approved",
    "close_issued",
    "votes_statement",
]

MOST_WAITING: Final = 1000
"""Requests of one origin that wait: what a taken-over RA can pile up before the approvers."""

MOST_OF_REQUESTER: Final = 100
"""Of these, so many of one requester: no requester keeps the others of its RA out."""

REMEMBERED_SECONDS: Final = 7 * 86400
"""How long after its end a request is kept, so that whoever asks learns what became of it."""

_COLUMNS: Final = tuple(column.name for column in approval_requests.columns)
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode


class _Step:
    __slots__ = ()

    @property
    def weight(self) -> int:
        """Return about how many rows the command writes."""
        return 2

    def needs(self, needs: Needs) -> None:
        """Look at nothing beforehand: ``stage`` does."""


@dataclass(frozen=True, slots=True)
class OpenApproval(_Step):
    """A request that waits from now on. Opened again, it stays what it is."""

    request: ApprovalRecord
    audit: AuditRecord

    def stage(self, transaction: Transaction) -> ApprovalRecord:
        """Insert it, or return what is there. Raises Conflict for a request id that was used for
        another request, and where its origin has too many that wait.
        """
        known = _stored(transaction, self.request.id)
        if known is not None:
            return known
        self._check(transaction)
        _forget_old(transaction)
        transaction.connection.execute(approval_requests.insert().values(_row(self.request)))
        transaction.append_audit(self.audit)
        return self.request

    def _check(self, transaction: Transaction) -> None:
        table, asked = approval_requests.c, self.request
        reused = sa.select(table.id).where(
            table.request_id == asked.request_id,
            table.origin == asked.origin,
            table.request_digest != asked.request_digest,
        )
        if transaction.connection.execute(reused).first() is not None:
            raise Conflict("the request id was used for another request")
        waiting = sa.select(sa.func.count()).where(
            table.origin == asked.origin,
            table.state == ApprovalState.WAITING.value,
            table.expires_at > transaction.now,
        )
        for counted, most, whose in (
            (waiting, MOST_WAITING, "this RA"),
            (waiting.where(table.requester == asked.requester), MOST_OF_REQUESTER, asked.requester),
        ):
            if (transaction.connection.scalar(counted) or 0) >= most:
                raise Conflict(f"{most} requests of {whose} wait for approval already")


@dataclass(frozen=True, slots=True)
class AddVote(_Step):
    """An approval. Given again, it counts once, and is what the newer chain brought."""

    request: bytes
    vote: Vote
    audit: AuditRecord

    def stage(self, transaction: Transaction) -> ApprovalRecord:
        """Store it; return the request with all its approvals. Raises NotFound, Conflict."""
        _waiting(transaction, self.request)
        mine = (approvals.c.request == self.request) & (approvals.c.approver == self.vote.approver)
        values = {"chain": self.vote.chain, "at": self.vote.at}
        if not transaction.connection.execute(
            approvals.update().where(mine).values(values)
        ).rowcount:
            transaction.connection.execute(
                approvals.insert().values(
                    request=self.request, approver=self.vote.approver, **values
                )
            )
        transaction.append_audit(self.audit)
        return _waiting(transaction, self.request)


@dataclass(frozen=True, slots=True)
class EndApproval(_Step):
    """A rejection or withdrawal; nothing undoes it."""

    request: bytes
    state: ApprovalState
    by: str
    reason: str
    audit: AuditRecord

    def stage(self, transaction: Transaction) -> ApprovalRecord:
        """End the request. Raises NotFound, Conflict when it has ended already."""
        _waiting(transaction, self.request)
        transaction.connection.execute(
            approval_requests.update()
            .where(approval_requests.c.id == self.request)
            .values(state=self.state.value, ended_by=self.by, reason=self.reason)
        )
        transaction.append_audit(self.audit)
        ended = _stored(transaction, self.request)
        assert ended is not None
        return ended


def check_approved(transaction: Transaction, request: bytes, approvers: Iterable[str]) -> None:
    """Raise Conflict or NotFound unless ``request`` still waits and has these approvals."""
    record = _waiting(transaction, request)
    given = {vote.approver for vote in record.votes}
    if len(given.intersection(approvers)) < record.needed:
        raise Conflict("the request hasn't the approvals that it needs")


def close_issued(transaction: Transaction, certificate: CertificateRecord) -> None:
    """Mark what was issued, also where the same request waited under an earlier profile."""
    table = approval_requests.c
    transaction.connection.execute(
        approval_requests.update()
        .where(
            table.request_id == certificate.request_id,
            table.authority_id == certificate.authority_id,
            table.request_digest == certificate.request_digest,
            table.state == ApprovalState.WAITING.value,
        )
        .values(state=ApprovalState.ISSUED.value)
    )


def approvals_statement(query: ApprovalQuery) -> sa.Select[Any]:
    """Return the statement that lists requests, oldest first."""
    table = approval_requests.c
    statement = sa.select(approval_requests).where(table.authority_id.in_(query.authority_ids))
    if query.waiting_at is not None:
        statement = statement.where(
            table.state == ApprovalState.WAITING.value, table.expires_at > query.waiting_at
        )
    if query.request is not None:
        statement = statement.where(table.id == query.request)
    if query.tenants is not None:
        statement = statement.where(table.tenant.in_(query.tenants))
    if query.profiles is not None:
        statement = statement.where(table.profile.in_(query.profiles))
    if query.asker is not None:
        origin, requester = query.asker
        statement = statement.where(table.origin == origin, table.requester == requester)
    if query.after is not None:
        at, request = query.after
        behind = sa.and_(table.opened_at == at, table.id > request)
        statement = statement.where(sa.or_(table.opened_at > at, behind))
    return statement.order_by(table.opened_at, table.id).limit(query.limit)


def votes_statement(requests: Sequence[bytes]) -> sa.Select[Any]:
    """Return the statement that reads the approvals of ``requests``."""
    return (
        sa.select(approvals)
        .where(approvals.c.request.in_(requests))
        .order_by(approvals.c.request, approvals.c.at, approvals.c.approver)
    )


def approval_of_row(row: Sequence[Any], votes: Iterable[Sequence[Any]]) -> ApprovalRecord:
    """Return a request from its row and the rows of ``votes_statement``, of others too."""
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("id", "profile_digest", "request_id", "request_digest", "csr"):
        values[name] = bytes(values[name])
    values["names"] = _decode_names(values["names"])
    values["state"] = ApprovalState(values["state"])
    given = tuple(
        Vote(approver=vote[1], chain=bytes(vote[2]), at=vote[3])
        for vote in votes
        if bytes(vote[0]) == values["id"]
    )
    return ApprovalRecord(**values, votes=given)


def _row(request: ApprovalRecord) -> dict[str, Any]:
    values = {name: getattr(request, name) for name in _COLUMNS}
    values["names"] = msgspec.json.encode(request.names).decode()
    values["state"] = request.state.value
    return values


def _stored(transaction: Transaction, request: bytes) -> ApprovalRecord | None:
    connection = transaction.connection
    row = connection.execute(
        sa.select(approval_requests).where(approval_requests.c.id == request)
    ).one_or_none()
    if row is None:
        return None
    return approval_of_row(row, connection.execute(votes_statement([request])).all())


def _waiting(transaction: Transaction, request: bytes) -> ApprovalRecord:
    """Return a request that waits. Raises NotFound, and Conflict when it has ended."""
    record = _stored(transaction, request)
    if record is None:
        raise NotFound("no such request waits for approval")
    if record.state is not ApprovalState.WAITING:
        raise Conflict(f"the request is {record.state.value} already")
    if record.expires_at <= transaction.now:
        raise Conflict("the request's time for approvals is over")
    return record


def _forget_old(transaction: Transaction) -> None:
    old = approval_requests.c.expires_at < transaction.now - REMEMBERED_SECONDS
    gone = sa.select(approval_requests.c.id).where(old)
    transaction.connection.execute(approvals.delete().where(approvals.c.request.in_(gone)))
    transaction.connection.execute(approval_requests.delete().where(old))
