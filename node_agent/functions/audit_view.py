"""Audit entries as the admin API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.web.backends import AuditItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.store.records import AuditEntry

__all__ = ["audit_items"]


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
