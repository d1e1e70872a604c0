"""The store's promises as a plain in-memory model, and the operations that test both alike."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from node_agent.errors import Conflict, NotFound
from node_agent.store.records import (
    CertificateRecord,
    CertificateStatus,
    ChangeEntry,
    ChangeKind,
    CrlRecord,
    ObjectChange,
    ObjectRecord,
    StatusChange,
)
from tests.support.store_records import audit

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from node_agent.store import Store

__all__ = [
    "ApplyPlan",
    "AppendAudit",
    "IssueCertificate",
    "Model",
    "NextCrlNumber",
    "Operation",
    "PublishBatch",
    "RecordCrl",
    "SetStatus",
]

Key = tuple[str, int]


@dataclass
class Model:
    """What a store that keeps its promises holds."""

    certificates: dict[Key, CertificateRecord] = field(default_factory=dict)
    requests: dict[tuple[str, bytes], tuple[Key, int]] = field(default_factory=dict)
    changes: list[tuple[str, str, int | None, bytes]] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    objects: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    crls: dict[tuple[str, bool], CrlRecord] = field(default_factory=dict)
    crl_numbers: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    changed_at: dict[Key, int] = field(default_factory=dict)

    def change(self, kind: ChangeKind, owner: str, serial: int | None, payload: bytes) -> int:
        """Append to the change log; return the position."""
        self.changes.append((kind.value, owner, serial, payload))
        return len(self.changes)

    def set_status(self, change: StatusChange) -> None:
        """Put a status into its certificate."""
        key = (change.authority_id, change.serial)
        good = change.status is CertificateStatus.GOOD
        self.changed_at[key] = change.at
        self.certificates[key] = dataclasses.replace(
            self.certificates[key],
            status=change.status,
            revoked_at=None if good else change.at,
            reason=None if good else change.reason,
        )


class Operation(Protocol):
    """Something done to the store and to the model, with one outcome."""

    def store(self, store: Store) -> Awaitable[Any]:
        """Return what does it to the store."""
        ...

    def expect(self, model: Model) -> Any:
        """Do it to the model; return or raise what the store must."""
        ...


@dataclass(frozen=True)
class IssueCertificate:
    """An issuance; the outcome is (serial, repeated, position)."""

    record: CertificateRecord

    async def store(self, store: Store) -> tuple[int, bool, int]:
        """Issue."""
        outcome = await store.record_issuance(self.record, b"issued", audit("issue"))
        return outcome.certificate.serial, outcome.repeated, outcome.position

    def expect(self, model: Model) -> tuple[int, bool, int]:
        """Repeat, refuse or add."""
        record = self.record
        key = (record.authority_id, record.serial)
        known = model.requests.get((record.origin, record.request_id)) or next(
            (
                (other, position)
                for (_, request_id), (other, position) in model.requests.items()
                if request_id == record.request_id
                and other[0] == record.authority_id
                and model.certificates[other].request_digest == record.request_digest
            ),
            None,
        )
        if known is not None:
            stored = model.certificates[known[0]]
            if stored.request_digest != record.request_digest:
                raise Conflict
            return stored.serial, True, known[1]
        if key in model.certificates:
            raise Conflict
        model.certificates[key] = record
        position = model.change(ChangeKind.CERTIFICATE, *key, b"issued")
        if record.request_id:
            model.requests[record.origin, record.request_id] = (key, position)
        model.audit.append("issue")
        return record.serial, False, position


@dataclass(frozen=True)
class SetStatus:
    """A status change; the outcome is its position."""

    change: StatusChange

    def store(self, store: Store) -> Awaitable[int]:
        """Record it."""
        return store.record_status(self.change, b"status", audit("status"))

    def expect(self, model: Model) -> int:
        """Take the step or refuse it."""
        change = self.change
        stored = model.certificates.get((change.authority_id, change.serial))
        if stored is None:
            raise NotFound
        if stored.status in (CertificateStatus.REVOKED, change.status):
            raise Conflict
        model.set_status(change)
        model.audit.append("status")
        return model.change(ChangeKind.STATUS, change.authority_id, change.serial, b"status")


@dataclass(frozen=True)
class RecordCrl:
    """A CRL; the outcome is its position."""

    crl: CrlRecord

    def store(self, store: Store) -> Awaitable[int]:
        """Record it."""
        return store.record_crl(self.crl, b"crl")

    def expect(self, model: Model) -> int:
        """Keep it when its number is new."""
        crl = self.crl
        is_delta = crl.base_number is not None
        same = model.crls.get((crl.authority_id, is_delta))
        other = model.crls.get((crl.authority_id, not is_delta))
        if crl.number <= (same.number if same else 0) or crl.number < (
            other.number if other else 0
        ):
            raise Conflict
        model.crls[crl.authority_id, is_delta] = crl
        newest = model.crl_numbers.get(crl.authority_id, 0)
        model.crl_numbers[crl.authority_id] = max(newest, crl.number)
        return model.change(ChangeKind.CRL, crl.authority_id, None, b"crl")


async def _next_number(store: Store, authority_id: str) -> int:
    return (await store.begin_crl(authority_id)).number


@dataclass(frozen=True)
class NextCrlNumber:
    """A CRL number; the outcome is that number."""

    authority_id: str

    def store(self, store: Store) -> Awaitable[int]:
        """Ask for it."""
        return _next_number(store, self.authority_id)

    def expect(self, model: Model) -> int:
        """Count."""
        model.crl_numbers[self.authority_id] = model.crl_numbers.get(self.authority_id, 0) + 1
        return model.crl_numbers[self.authority_id]


@dataclass(frozen=True)
class ApplyPlan:
    """A plan of (name, spec or None to delete); the outcome is None."""

    steps: tuple[tuple[str, bytes | None], ...]

    def store(self, store: Store) -> Awaitable[None]:
        """Apply it."""
        return store.apply_plan(
            [_object_change(*step) for step in self.steps], audit=[audit("plan")]
        )

    def expect(self, model: Model) -> None:
        """Do all of it, or nothing."""
        objects = dict(model.objects)
        for name, spec in self.steps:
            key = ("peer_roles", name)
            before = objects.get(key)
            if spec is None:
                if before is None:
                    raise NotFound
                del objects[key]
            elif before is None:
                objects[key] = (spec, 1)
            else:
                objects[key] = (spec, before[1] + (spec != before[0]))
        model.objects = objects
        model.audit.append("plan")


@dataclass(frozen=True)
class AppendAudit:
    """Audit records; the outcome is the newest sequence."""

    actions: tuple[str, ...]

    def store(self, store: Store) -> Awaitable[int]:
        """Append them."""
        return store.append_audit([audit(action) for action in self.actions])

    def expect(self, model: Model) -> int:
        """Append them."""
        model.audit += self.actions
        return len(model.audit)


@dataclass(frozen=True)
class PublishBatch:
    """A published batch; the outcome is the applied position."""

    source: str
    position: int
    certificates: tuple[CertificateRecord, ...]
    statuses: tuple[StatusChange, ...]
    entries: tuple[ChangeEntry, ...]

    def store(self, store: Store) -> Awaitable[int]:
        """Apply it."""
        return store.apply_published(
            self.source,
            self.position,
            certificates=self.certificates,
            statuses=self.statuses,
            entries=self.entries,
        )

    def expect(self, model: Model) -> int:
        """Apply what is new."""
        applied = model.sources.get(self.source, 0)
        if self.position <= applied:
            return applied
        news = {
            (record.authority_id, record.serial)
            for record in self.certificates
            if _publish_certificate(model, record)
        }
        for change in self.statuses:
            _publish_status(model, change)
        for entry in self.entries:
            if entry.position > applied and (entry.authority_id, entry.serial) in news:
                model.change(entry.kind, entry.authority_id, entry.serial, entry.payload)
        model.sources[self.source] = self.position
        return self.position


def _object_change(name: str, spec: bytes | None) -> ObjectChange:
    record = None if spec is None else ObjectRecord(kind="peer_roles", name=name, spec=spec)
    return ObjectChange(kind="peer_roles", name=name, record=record)


def _publish_certificate(model: Model, record: CertificateRecord) -> bool:
    """Take it in; tell whether it was news."""
    key = (record.authority_id, record.serial)
    stored = model.certificates.get(key)
    published = dataclasses.replace(record, request_id=b"")
    if stored is None:
        model.certificates[key] = published
    elif not stored.der:
        model.certificates[key] = dataclasses.replace(
            published, status=stored.status, revoked_at=stored.revoked_at, reason=stored.reason
        )
    else:
        return False
    return True


def _publish_status(model: Model, change: StatusChange) -> None:
    key = (change.authority_id, change.serial)
    stored = model.certificates.get(key)
    if stored is None:
        model.certificates[key] = CertificateRecord(
            authority_id=change.authority_id,
            serial=change.serial,
            der=b"",
            subject="",
            names=(),
            fingerprint_sha256=b"",
            not_before=0,
            not_after=0,
            profile="",
            issued_at=change.at,
        )
    elif stored.status in (CertificateStatus.REVOKED, change.status) or (
        change.status is CertificateStatus.GOOD and change.at < model.changed_at.get(key, 0)
    ):
        return
    model.set_status(change)
