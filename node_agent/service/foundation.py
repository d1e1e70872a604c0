"""What every part of a node stands on: settings, clock, store, objects, keys, signing workers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node_agent.functions import known_authorities
from node_agent.functions.known_authorities import KnownAuthorities
from node_agent.functions.node_objects import NodeObjects
from node_agent.functions.signal import ChangeSignal
from node_agent.functions.tokens import Tokens, read_passphrase, read_secret
from node_agent.metrics import Metrics
from node_agent.objects import CryptoTokenSpec
from node_agent.pki.signing import SigningPool
from node_agent.store import Ownership, is_sqlite, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AsyncExitStack

    from node_agent.clock import Clock
    from node_agent.config import NodeSettings
    from node_agent.store import Store, StoreReader
    from node_agent.store.records import AuditRecord, ObjectRecord, StoreHeads

__all__ = ["Foundation", "open_foundation"]

# What a node has for itself also where it shares its store; everything else is common.
_OWN_KINDS = frozenset({"authenticators", "peer_connectors", "signers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """``heads`` is how far the store was before anything of it was loaded."""

    settings: NodeSettings
    clock: Clock
    store: Store
    reader: StoreReader
    heads: StoreHeads
    objects: NodeObjects
    tokens: Tokens
    known: KnownAuthorities
    pool: SigningPool
    metrics: Metrics
    changed: ChangeSignal = field(default_factory=ChangeSignal)

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may use the same store."""
        return not is_sqlite(self.settings.store_url)

    def configure_tokens(self) -> None:
        """Make the crypto tokens what the objects say."""
        self.tokens.configure(self.objects.specs("crypto_tokens", CryptoTokenSpec))

    async def follow_tokens(self) -> None:
        """Make the crypto tokens what the objects now say, and log out of those that are gone."""
        self.configure_tokens()
        await self.pool.retire(self.tokens.accesses())

    async def audit(self, record: AuditRecord) -> None:
        """Write an entry of the audit log, and count it."""
        self.metrics.audit.labels("allowed" if record.allowed else "denied").inc()
        await self.store.append_audit([record])


async def open_foundation(
    settings: NodeSettings, *, clock: Clock, opened: AsyncExitStack
) -> Foundation:
    """Open store and keys and load every object. ``opened`` closes it all.

    Raises ConfigError, StoreError; TokenError when the passphrase isn't there or isn't right.
    """
    _make_directories(settings)
    passphrase = read_passphrase(settings.passphrase_path)
    shared_path = settings.shared_passphrase_path
    shared_passphrase = None if shared_path is None else read_passphrase(shared_path)
    metrics = Metrics()
    store = await opened.enter_async_context(_make_store(settings, clock))
    store.observe_commits(metrics.observer())
    reader = await opened.enter_async_context(store.reader())
    if not is_sqlite(settings.store_url):
        await store.join(shares_passphrase=shared_passphrase is not None)
    heads = await store.heads()
    records = await store.objects()
    base = Foundation(
        settings=settings,
        clock=clock,
        store=store,
        reader=reader,
        heads=heads,
        objects=NodeObjects(records),
        tokens=Tokens(
            passphrase,
            await store.keys(),
            node=settings.identity.name,
            shared_passphrase=shared_passphrase,
            modules=settings.pkcs11_modules,
        ),
        known=_known_of(records),
        pool=await opened.enter_async_context(SigningPool(settings.workers)),
        metrics=metrics,
    )
    base.configure_tokens()
    await asyncio.to_thread(base.tokens.verify)
    return base


def _make_store(settings: NodeSettings, clock: Clock) -> Store:
    path = settings.store_password_path
    password = None if path is None else lambda: read_secret(path, what="store password").decode()
    return open_store(
        settings.store_url,
        clock=clock,
        owner=Ownership(node=settings.identity.name, own_kinds=_OWN_KINDS),
        password=password,
    )


def _known_of(records: Iterable[ObjectRecord]) -> KnownAuthorities:
    known = KnownAuthorities()
    for record in records:
        if record.kind == known_authorities.KIND:
            known.add(known_authorities.from_record(record))
    return known


def _make_directories(settings: NodeSettings) -> None:
    for directory, mode in ((settings.state_directory, 0o700), (settings.runtime_directory, 0o750)):
        directory.mkdir(parents=True, exist_ok=True, mode=mode)
    os.umask(0o077)
