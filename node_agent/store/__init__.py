"""Where a node keeps what it must not lose: certificates, statuses, logs, objects, keys."""

from __future__ import annotations

from node_agent.store.api import Reader, Writer
from node_agent.store.engine import is_sqlite
from node_agent.store.reader import AuditHead, AuditVerdict, StoreReader
from node_agent.store.records import Ownership
from node_agent.store.store import Store, open_reader, open_store

__all__ = [
    "AuditHead",
    "AuditVerdict",
    "Ownership",
    "Reader",
    "Store",
    "StoreReader",
    "Writer",
    "is_sqlite",
    "open_reader",
    "open_store",
]
