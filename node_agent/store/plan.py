"""The write of a management plan: objects, keys, CA certificates, entries and audit together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from node_agent.errors import Conflict, NotFound, Outdated
from node_agent.store.records import (
    AuditRecord,
    CertificateRecord,
    ChangeKind,
    KeyRecord,
    ObjectChange,
    ObjectRecord,
    Ownership,
)
from node_agent.store.rows import key_record, object_record
from node_agent.store.schema import crypto_keys, objects, pack_serial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.transaction import Needs, Transaction

__all__ = ["ApplyPlan"]

KEY_COLUMNS = tuple(column.name for column in crypto_keys.columns)
ObjectKey = tuple[str, str, str]
"""Node, kind and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPlan:
    """A management plan: all of it or nothing. ``made_at``: the revision that it was made against,
    None for a plan that no other can disturb.
    """

    changes: Sequence[ObjectChange]
    keys: Sequence[KeyRecord]
    entries: Sequence[tuple[str, bytes]]
    certificates: Sequence[tuple[CertificateRecord, bytes]]
    audit: Sequence[AuditRecord]
    owner: Ownership
    made_at: int | None = None

    @property
    def weight(self) -> int:
        """Return about how many rows the plan writes."""
        parts = (self.changes, self.keys, self.entries, self.certificates, self.audit)
        return max(1, sum(len(part) for part in parts))

    def needs(self, needs: Needs) -> None:
        """Look at the certificates that must not exist yet."""
        for record, _ in self.certificates:
            needs.certificates.add((record.authority_id, pack_serial(record.serial)))

    def stage(self, transaction: Transaction) -> None:
        """Refuse the plan as a whole, or stage all of it."""
        if self.made_at not in (None, transaction.revision):
            raise Outdated("another node has changed the store meanwhile; try again")
        stored = self._stored_objects(transaction)
        new_keys = self._new_keys(transaction)
        self._check(transaction, stored)
        for change in self.changes:
            _write_object(transaction, self._key(change), change.record, stored)
        if new_keys:
            transaction.connection.execute(crypto_keys.insert(), new_keys)
        for authority_id, payload in self.entries:
            transaction.append_change(
                ChangeKind.AUTHORITY, authority_id, None, at=transaction.now, payload=payload
            )
        for record, payload in self.certificates:
            transaction.log_certificate(record, payload)
        for audit in self.audit:
            transaction.append_audit(audit)
        if self.changes or self.keys:
            transaction.revision += 1

    def _check(
        self, transaction: Transaction, stored: dict[ObjectKey, ObjectRecord | None]
    ) -> None:
        exists = {key: record is not None for key, record in stored.items()}
        for change in self.changes:
            key = self._key(change)
            if change.record is None and not exists[key]:
                raise NotFound(f"no object {change.name} of kind {change.kind}")
            exists[key] = change.record is not None
        for record, _ in self.certificates:
            if transaction.certificate(record.authority_id, record.serial) is not None:
                raise Conflict(f"certificate {record.serial:x} exists already")

    def _new_keys(self, transaction: Transaction) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for key in self.keys:
            same = (crypto_keys.c.node == key.node) & (crypto_keys.c.token == key.token)
            row = transaction.connection.execute(
                sa.select(crypto_keys).where(same, crypto_keys.c.label == key.label)
            ).one_or_none()
            if row is None:
                rows.append({name: getattr(key, name) for name in KEY_COLUMNS})
            elif key_record(row) != key:
                # Overwriting a private key is the one loss that no backup of ours makes good.
                raise Conflict(f"token {key.token} holds another key with label {key.label}")
        return rows

    def _stored_objects(self, transaction: Transaction) -> dict[ObjectKey, ObjectRecord | None]:
        stored: dict[ObjectKey, ObjectRecord | None] = {}
        for change in self.changes:
            key = self._key(change)
            statement = sa.select(objects).where(_is(key))
            row = transaction.connection.execute(statement).one_or_none()
            stored[key] = None if row is None else object_record(row)
        return stored

    def _key(self, change: ObjectChange) -> ObjectKey:
        return (self.owner.of(change.kind), change.kind, change.name)


def _is(key: ObjectKey) -> sa.ColumnElement[bool]:
    node, kind, name = key
    return (objects.c.node == node) & (objects.c.kind == kind) & (objects.c.name == name)


def _write_object(
    transaction: Transaction,
    key: ObjectKey,
    record: ObjectRecord | None,
    stored: dict[ObjectKey, ObjectRecord | None],
) -> None:
    same = _is(key)
    before = stored[key]
    if record is None:
        transaction.connection.execute(objects.delete().where(same))
    else:
        # What the next change of the same object in this plan finds.
        record = replace(record, generation=_generation(before, record))
        values = {
            "spec": record.spec,
            "state": record.state,
            "generation": record.generation,
            "updated_at": record.updated_at or transaction.now,
        }
        statement = (
            objects.insert().values(node=key[0], kind=key[1], name=key[2], **values)
            if before is None
            else objects.update().where(same).values(**values)
        )
        transaction.connection.execute(statement)
    stored[key] = record


def _generation(before: ObjectRecord | None, record: ObjectRecord) -> int:
    if before is None:
        return record.generation
    return before.generation + (before.spec != record.spec)
