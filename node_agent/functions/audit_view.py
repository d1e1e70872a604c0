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
_MOST_READ: Final = 10_000
# By how much times may step back within the log, when a clock was set.
_CLOCK_STEP_SECONDS: Final = 3600.0


class AuditSource(Protocol):
    """What is read of a store."""

    async def audit_entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Return entries with a sequence above ``after``, in order."""
        ...

    async def audit_head(self) -> AuditHead:
        """Return the newest entry's number and hash."""
        ...


async def select_entries(
    source: AuditSource, wanted: AuditSelection, *, home: str = ""
) -> list[AuditEntry]:
    """Return what ``wanted`` selects, in order, a page of the log in memory at a time. ``home`` is
    the trust domain whose nodes stand in chains by their names alone.
    """
    called = _called(wanted.peer, home)
    if wanted.last:
        return await _newest(source, wanted, called)
    return await _oldest(source, wanted, called)


def _called(peer: str, home: str) -> str:
    """Return how ``peer``, an identity or a bare name, stands in a chain."""
    domain, _, name = peer.rpartition("/")
    return name if not domain or not home or domain == f"spiffe://{home}/node" else peer


async def _newest(source: AuditSource, wanted: AuditSelection, called: str) -> list[AuditEntry]:
    """From the end, stop at the entry that is older than ``since``: times may step back with the
    clock, but not by as much as anybody asks about.
    """
    found: list[AuditEntry] = []
    upper = (await source.audit_head()).sequence
    while upper > wanted.after and len(found) < wanted.limit:
        lower = max(wanted.after, upper - _PAGE)
        page = await source.audit_entries(after=lower, limit=upper - lower)
        found = [entry for entry in page if _is_wanted(entry, wanted, called)] + found
        if page and page[0].record.at < wanted.since:
            break
        upper = lower
    return found[-wanted.limit :]


async def _oldest(source: AuditSource, wanted: AuditSelection, called: str) -> list[AuditEntry]:
    """From the first entry that may be meant, go on until there are some, or there can be none."""
    after = max(wanted.after, await _last_before(source, wanted.since - _CLOCK_STEP_SECONDS))
    while page := await source.audit_entries(after=after, limit=min(wanted.limit, _MOST_READ)):
        found = [entry for entry in page if _is_wanted(entry, wanted, called)]
        is_past = wanted.until and page[0].record.at > wanted.until + _CLOCK_STEP_SECONDS
        if found or is_past:
            return found
        after = page[-1].sequence
    return []


async def _last_before(source: AuditSource, at: float) -> int:
    """Return the last entry's sequence that is older than ``at``, 0 without one; by halves."""
    if at <= 0:
        return 0
    older, newer = 0, (await source.audit_head()).sequence + 1
    while newer - older > 1:
        middle = (older + newer) // 2
        entries = await source.audit_entries(after=middle - 1, limit=1)
        if entries and entries[0].record.at < at:
            older = middle
        else:
            newer = middle
    return older


def _is_wanted(entry: AuditEntry, wanted: AuditSelection, called: str) -> bool:
    record = entry.record
    if (wanted.denied and record.allowed) or record.at < wanted.since:
        return False
    if wanted.until and record.at > wanted.until:
        return False
    if not wanted.peer:
        return True
    named = {record.detail.get("origin"), record.detail.get("peer")}
    return wanted.peer in named or called in record.chain.split(" via ")


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
