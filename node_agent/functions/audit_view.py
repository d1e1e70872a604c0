"""Audit entries as the admin API shows them, and finding them from the end of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from node_agent.web.backends import AuditItem, AuditSelection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.audit_chain import AuditHead
    from node_agent.store.records import AuditEntry

__all__ = ["AuditSource", "audit_items", "select_entries"]

_PAGE: Final = 2000


class AuditSource(Protocol):
    """What is read of a store."""

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Return entries with a sequence above ``after``, in order."""
        ...

    async def audit_head(self) -> AuditHead:
        """Return the newest entry's number and hash."""
        ...


async def select_entries(source: AuditSource, wanted: AuditSelection) -> list[AuditEntry]:
    """Return what ``wanted`` selects, in order, a page of the log in memory at a time.

    From the end, it stops at the entry that is older than ``since``: times may step back with the
    clock, but not by as much as anybody asks about.
    """
    if not wanted.last:
        entries = await source.audit_entries(after=wanted.after, limit=wanted.limit)
        return [entry for entry in entries if _is_wanted(entry, wanted)]
    found: list[AuditEntry] = []
    upper = (await source.audit_head()).sequence
    while upper > wanted.after and len(found) < wanted.limit:
        lower = max(wanted.after, upper - _PAGE)
        page = await source.audit_entries(after=lower, limit=upper - lower)
        found = [entry for entry in page if _is_wanted(entry, wanted)] + found
        if page and page[0].record.at < wanted.since:
            break
        upper = lower
    return found[-wanted.limit :]


def _is_wanted(entry: AuditEntry, wanted: AuditSelection) -> bool:
    record = entry.record
    if (wanted.denied and record.allowed) or record.at < wanted.since:
        return False
    if not wanted.peer:
        return True
    named = {record.detail.get("origin"), record.detail.get("peer")}
    return wanted.peer in named or wanted.peer.rpartition("/")[2] in record.chain.split(" via ")


def audit_items(entries: Sequence[AuditEntry]) -> list[AuditItem]:
    """Return entries as the admin API shows them."""
    return [
        AuditItem(
            sequence=entry.sequence,
            at=entry.record.at,
            action=entry.record.action,
            allowed=entry.record.allowed,
            chain=entry.record.chain,
            resources=entry.record.resources,
            reason=entry.record.reason,
            detail=entry.record.detail,
            hash=entry.entry_hash.hex(),
        )
        for entry in entries
    ]
