"""A change of status that a signed request asks for: once, whichever node it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from node_agent.errors import Conflict
from node_agent.store.commands import RecordStatus
from node_agent.store.records import AuditRecord, StatusChange, StatusOutcome, StatusRequest
from node_agent.store.schema import status_requests

if TYPE_CHECKING:
    from node_agent.store.transaction import Needs, Transaction

__all__ = ["REMEMBERED_SECONDS", "RecordStatusOnce"]

REMEMBERED_SECONDS: Final = 3600
"""Longer than any signed request is valid: after that a replay is refused for its age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStatusOnce:
    """As ``RecordStatus``, with the request's id in the same transaction."""

    change: StatusChange
    payload: bytes
    audit: AuditRecord
    request: StatusRequest

    @property
    def weight(self) -> int:
        """Return about how many rows the command writes."""
        return 2

    def needs(self, needs: Needs) -> None:
        """Look at the certificate's status."""
        self._change().needs(needs)

    def stage(self, transaction: Transaction) -> StatusOutcome:
        """Stage the step, or say what the request did before. A status that is so already is
        remembered too: the same request must not change it later.
        """
        known = self._known(transaction)
        if known is not None:
            return known
        change = self.change
        stored = transaction.certificate(change.authority_id, change.serial, change.tenants)
        is_so = stored is not None and stored.status is change.status
        position = 0 if is_so else self._change().stage(transaction)
        self._remember(transaction, position)
        return StatusOutcome(position=position, at=change.at, repeated=False)

    def _change(self) -> RecordStatus:
        return RecordStatus(self.change, self.payload, self.audit)

    def _known(self, transaction: Transaction) -> StatusOutcome | None:
        table = status_requests.c
        row = transaction.connection.execute(
            sa.select(table.request_digest, table.position, table.at).where(
                table.origin == self.request.origin, table.request_id == self.request.request_id
            )
        ).one_or_none()
        if row is None:
            return None
        if bytes(row.request_digest) != self.request.digest:
            raise Conflict("the request id was used for another request")
        return StatusOutcome(position=row.position, at=row.at, repeated=True)

    def _remember(self, transaction: Transaction, position: int) -> None:
        old = status_requests.c.at < transaction.now - REMEMBERED_SECONDS
        transaction.connection.execute(status_requests.delete().where(old))
        transaction.connection.execute(
            status_requests.insert().values(
                origin=self.request.origin,
                request_id=self.request.request_id,
                request_digest=self.request.digest,
                position=position,
                at=transaction.now,
            )
        )
