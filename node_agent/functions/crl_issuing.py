"""When CRLs are made: at once for a new CA, on revocation, and before the last one ends.

One task serves every CA of the node. Revocations that arrive while a CRL is being made are in the
next one, which starts right after: however many there are, at most one CRL a CA is under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import NodeAgentError
from node_agent.functions.change_payloads import crl_payload, encode
from node_agent.functions.crl_content import make_crl
from node_agent.functions.signal import ChangeSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.store.api import Writer
    from node_agent.store.records import CrlRecord

__all__ = ["CrlIssuing"]

log = structlog.get_logger(__name__)

_LOOK_AGAIN_SECONDS = 30.0
_RETRY_SECONDS = 5.0


class CrlIssuing:
    """Run with ``run()``. ``on_crl`` is given each CRL (authority id, DER) after its commit."""

    def __init__(
        self,
        *,
        store: Writer,
        authorities: Authorities,
        changed: ChangeSignal,
        on_crl: Callable[[str, bytes], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._changed = changed
        self._on_crl = on_crl
        self._clock = clock
        self._wanted: set[str] = set()
        self._wake = ChangeSignal()
        self._making = asyncio.Lock()
        self.newest: dict[str, CrlRecord] = {}
        self.last_error: dict[str, str] = {}

    def revoked(self, authority: LoadedAuthority) -> None:
        """Note that a CA's list has changed."""
        if authority.spec.crl.on_revocation:
            self.want(authority.name)

    def want(self, name: str) -> None:
        """Ask for a new CRL of the CA ``name`` soon."""
        self._wanted.add(name)
        self._wake.announce()

    async def run(self) -> None:
        """Make CRLs until cancelled."""
        while True:
            seen = self._wake.count
            pause = _LOOK_AGAIN_SECONDS
            for name in self._authorities.names():
                try:
                    await self.make_if_due(name)
                    self.last_error.pop(name, None)
                except NodeAgentError as error:
                    self.last_error[name] = str(error)
                    log.error("CRL not made", authority=name, reason=str(error))
                    pause = _RETRY_SECONDS
            await self._wake.wait(seen, pause)

    async def make_if_due(self, name: str) -> None:
        """Make the CRLs of one CA that are due or wanted."""
        async with self._making:
            await self._make_if_due(name)

    async def make(self, name: str) -> CrlRecord:
        """Make a full CRL of a CA now."""
        authority = self._authorities.get(name)
        async with self._making:
            return await self._make(authority, authority.spec.crl.validity_seconds, base=None)

    async def _make_if_due(self, name: str) -> None:
        authority = self._authorities.get(name)
        wanted = name in self._wanted
        self._wanted.discard(name)
        full = await self._newest(authority, delta=False)
        now = self._clock.now()
        spec = authority.spec.crl
        is_due = full is None or full.next_update - spec.overlap_seconds <= now
        if is_due or (wanted and not spec.delta_validity_seconds):
            full = await self._make(authority, spec.validity_seconds, base=None)
        if spec.delta_validity_seconds and full is not None:
            delta = await self._newest(authority, delta=True)
            overlap = spec.delta_validity_seconds // 4
            if wanted or delta is None or delta.next_update - overlap <= now:
                await self._make(authority, spec.delta_validity_seconds, base=full)

    async def _newest(self, authority: LoadedAuthority, *, delta: bool) -> CrlRecord | None:
        if not delta and authority.name in self.newest:
            return self.newest[authority.name]
        record = await self._store.latest_crl(authority.authority_id, delta=delta)
        if record is not None and not delta:
            self.newest[authority.name] = record
        return record

    async def _make(
        self, authority: LoadedAuthority, validity_seconds: int, *, base: CrlRecord | None
    ) -> CrlRecord:
        record = await make_crl(
            self._store,
            self._authorities,
            authority,
            now=int(self._clock.now()),
            validity_seconds=validity_seconds,
            base=base,
        )
        await self._store.record_crl(record, encode(crl_payload(record)))
        if base is None:
            self.newest[authority.name] = record
        log.info("CRL made", authority=authority.name, number=record.number, delta=base is not None)
        self._changed.announce()
        self._on_crl(record.authority_id, record.der)
        return record
