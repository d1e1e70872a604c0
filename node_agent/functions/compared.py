"""The VA's side of a comparison: say what is here, by digests, and let its CA put it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.errors import PolicyDenied, RequestRefused
from node_agent.functions.change_payloads import (
    CertificatePayload,
    StatusPayload,
    certificate_payload,
    decode,
    encode,
    status_change,
    status_only,
    status_payload,
)
from node_agent.functions.held_crls import drop_spoilt, held_lists
from node_agent.functions.range_digests import DigestTree, LeafKeeper, read_tree
from node_agent.functions.receiving import Applied, read_certificate
from node_agent.peers.codec import UNREADABLE
from node_agent.peers.operations import (
    ComparedEntry,
    DigestsAnswer,
    DigestsRequest,
    EntriesAnswer,
    EntriesRequest,
    RecordsAnswer,
    RecordsRequest,
    RepairAnswer,
    RepairedEntry,
    RepairRequest,
    serial_number,
    serial_octets,
)
from node_agent.store.records import CertificateStatus, ChangeEntry, ChangeKind, StatusChange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.peers.context import Context
    from node_agent.store.api import Writer
    from node_agent.store.records import CertificateRecord

__all__ = ["ComparedStore", "read_entry", "repaired_entry"]

_ENTRIES_AT_ONCE: Final = 10_000
_LAST_SERIAL: Final = (1 << 160) - 1
_MOST_TREES: Final = 4
"""Comparisons that may be under way at once without making their trees again: 2.2 MiB each."""


class ComparedStore:
    """Handles PUBLISH_DIGESTS, PUBLISH_ENTRIES, PUBLISH_RECORDS and PUBLISH_REPAIR."""

    def __init__(
        self,
        store: Writer,
        known: KnownAuthorities,
        keeper: LeafKeeper,
        *,
        on_applied: Callable[[Applied], None],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._known = known
        self._keeper = keeper
        self._on_applied = on_applied
        self._settled = settled
        self._trees: dict[tuple[str, tuple[str, ...]], DigestTree] = {}

    async def digests(self, context: Context, request: DigestsRequest) -> DigestsAnswer:
        """Answer the digests below some nodes. Raises PolicyDenied for a CA it doesn't name."""
        self._authority(request.authority, request.authority_id)
        key = (request.authority_id, tuple(sorted(request.content)))
        tree = None if request.begins else self._trees.get(key)
        if tree is None:
            if request.recomputes:
                await self._keeper.forget()
            await self._keeper.refresh()
            tree = await read_tree(self._store, request.authority_id, request.content)
            self._trees.pop(key, None)
            self._trees[key] = tree
            while len(self._trees) > _MOST_TREES:
                del self._trees[next(iter(self._trees))]
        digests = tuple(tree.children(prefix) for prefix in request.prefixes)
        may_take_back = context.roles.permits(context.origin, "/peer/publish/take_back")
        return DigestsAnswer(digests=digests, entries=tree.entries, may_take_back=may_take_back)

    async def entries(self, context: Context, request: EntriesRequest) -> EntriesAnswer:
        """Answer what is in some leaves."""
        self._authority(request.authority, request.authority_id)
        after = serial_number(request.after)
        if after == _LAST_SERIAL:
            return EntriesAnswer(entries=(), has_more=False)
        found = await self._store.entry_digests(
            request.authority_id, request.buckets, after=after, limit=_ENTRIES_AT_ONCE
        )
        entries = tuple(
            ComparedEntry(
                serial=serial_octets(item.serial),
                statuses=item.statuses,
                certificate=item.certificate,
            )
            for item in found
        )
        return EntriesAnswer(entries=entries, has_more=len(entries) == _ENTRIES_AT_ONCE)

    async def records(self, context: Context, request: RecordsRequest) -> RecordsAnswer:
        """Tell a CA what is here of its work: rows to one that was restored, CRLs to any. Raises
        RequestRefused for what is no serial number.
        """
        authority = self._authority(request.authority, request.authority_id)
        try:
            serials = [serial_number(serial) for serial in request.serials]
        except ValueError as error:
            raise RequestRefused(str(error), field="serials") from error
        found = [await self._store.certificate(authority.authority_id, item) for item in serials]
        if not serials and (left := await drop_spoilt(self._store, authority)):
            self._on_applied(Applied(crls=left))
            await self._settled()
        return RecordsAnswer(
            entries=tuple(repaired_entry(record) for record in found if record is not None),
            lists=await held_lists(self._store, authority.authority_id),
        )

    async def repair(self, context: Context, request: RepairRequest) -> RepairAnswer:
        """Make rows what the CA says. Raises RequestRefused for what can't be read."""
        authority = self._authority(request.authority, request.authority_id)
        try:
            records = [read_entry(authority, entry) for entry in request.entries]
            surplus = [serial_number(serial) for serial in request.surplus]
        except (*UNREADABLE, ValueError) as error:
            raise RequestRefused("a repaired entry can't be read", field="entries") from error
        repaired = await self._store.apply_repair(
            authority.authority_id,
            records,
            removed=surplus,
            audit=context.audit_record,
            entries=[found for entry in request.entries for found in _entries(authority, entry)],
            takes_back=request.takes_back,
        )
        applied = Applied(certificates=records)
        applied.statuses = [_gone(authority, serial) for serial in surplus]
        self._on_applied(applied)
        await self._settled()
        return RepairAnswer(repaired=repaired)

    def _authority(self, name: str, identifier: str) -> KnownAuthority:
        authority = self._known.get(identifier)
        if authority is None or authority.name != name:
            raise PolicyDenied(f"{identifier} isn't the CA {name}", rule="publish")
        if authority.is_own:
            raise PolicyDenied(f"{name!r} is this node's own CA", rule="publish")
        return authority


def repaired_entry(record: CertificateRecord, *, has_certificate: bool = True) -> RepairedEntry:
    """Return what a row says, on its way."""
    payload = certificate_payload(record)
    change = StatusChange(
        authority_id=record.authority_id,
        serial=record.serial,
        status=record.status,
        at=record.revoked_at or record.issued_at,
        reason=record.reason,
        invalidity_at=record.invalidity_at,
    )
    return RepairedEntry(
        serial=serial_octets(record.serial),
        certificate=encode(payload if has_certificate else status_only(payload)),
        status=encode(status_payload(change)),
    )


def read_entry(authority: KnownAuthority, entry: RepairedEntry) -> CertificateRecord:
    """Return such an entry as a row. Raises one of UNREADABLE, or ValueError."""
    serial = serial_number(entry.serial)
    payload = decode("certificate", entry.certificate)
    assert isinstance(payload, CertificatePayload)
    status = decode("status", entry.status)
    assert isinstance(status, StatusPayload)
    change = status_change(authority.authority_id, serial, status)
    return read_certificate(authority, serial, payload, change)


def _entries(authority: KnownAuthority, entry: RepairedEntry) -> list[ChangeEntry]:
    """Return a repair as entries of the change log, for those whom this node publishes to."""
    serial, status = serial_number(entry.serial), decode("status", entry.status)
    assert isinstance(status, StatusPayload)
    said = [(ChangeKind.CERTIFICATE, entry.certificate)]
    if status.status != CertificateStatus.GOOD.value:
        said.append((ChangeKind.STATUS, entry.status))
    return [
        ChangeEntry(
            position=0,
            kind=kind,
            authority_id=authority.authority_id,
            serial=serial,
            at=status.at,
            payload=payload,
        )
        for kind, payload in said
    ]


def _gone(authority: KnownAuthority, serial: int) -> StatusChange:
    """Say that what is known of a serial has changed, to whoever keeps answers about it."""
    return StatusChange(
        authority_id=authority.authority_id, serial=serial, status=CertificateStatus.GOOD, at=0
    )
