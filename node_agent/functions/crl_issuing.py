"""When CRLs are made: at once for a new CA, on revocation, and before the last one ends.

One task serves every CA of the node. Nodes that share a store may find the same CRL due; the store
takes one. Revocations that arrive while a CRL is being made are in the next one, which starts right
after: however many there are, at most one CRL is under way. Of a CA whose list is divided, only the
shards in which a status changed are made anew.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import structlog

from node_agent.errors import NodeAgentError, Superseded
from node_agent.functions.change_payloads import crl_payload, encode
from node_agent.functions.containment import Containment
from node_agent.functions.crl_content import make_crl
from node_agent.functions.crl_schedule import CrlSchedule
from node_agent.functions.signal import ChangeSignal
from node_agent.store.records import CrlHead

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from node_agent.clock import Clock
    from node_agent.functions.authorities import Authorities, LoadedAuthority
    from node_agent.store.api import Writer
    from node_agent.store.records import CrlOutlook, CrlRecord, CrlStart

__all__ = ["CrlIssuing"]

log = structlog.get_logger(__name__)

_LOOK_AGAIN_SECONDS = 30.0
_RETRY_SECONDS = 5.0
# How much longer than the node on which a status changed the others of its store wait.
_OTHERS_FIRST_SECONDS = 3.0


class CrlIssuing:
    """Run with ``run()``. ``on_crl`` is given each CRL after its commit."""

    def __init__(
        self,
        *,
        store: Writer,
        authorities: Authorities,
        changed: ChangeSignal,
        on_crl: Callable[[CrlRecord], None],
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
        self._unlooked: set[str] = set()
        self._schedule = CrlSchedule()
        self._is_planned = False
        self._contained = Containment("CRL", clock=clock)
        self.newest: dict[tuple[str, int], CrlHead] = {}
        self.last_error: dict[str, str] = {}

    def revoked(self, authority: LoadedAuthority) -> None:
        """Note that this node has changed a CA's list."""
        if authority.spec.crl.on_revocation:
            self._look_soon(authority.name)

    def revoked_elsewhere(self, name: str) -> None:
        """Note that another node of the store has changed a CA's list.

        That node makes the CRL. If it ended before it could, this one does, after a while.
        """
        if self._authorities.get(name).spec.crl.on_revocation:
            loop = asyncio.get_running_loop()
            loop.call_later(_OTHERS_FIRST_SECONDS, self._look_soon, name)

    def made_elsewhere(self, name: str) -> None:
        """Note that another node of the store may have made a CRL."""
        self.newest = {key: head for key, head in self.newest.items() if key[0] != name}

    def want(self, name: str) -> None:
        """Ask for a new CRL of the CA ``name`` soon."""
        self._wanted.add(name)
        self._hurry(name)

    def configure(self) -> None:
        """Plan anew: a CA was added, changed or deleted."""
        self._is_planned = False
        self._wake.announce()

    async def run(self) -> None:
        """Make CRLs until cancelled."""
        while True:
            seen = self._wake.count
            pause = _RETRY_SECONDS
            try:
                if not self._is_planned:
                    with self._contained.around(""):
                        await self._plan()
                while (name := self._schedule.take(self._clock.now())) is not None:
                    await self._look(name)
                pause = self._schedule.seconds_until_next(self._clock.now())
            except (NodeAgentError, TimeoutError) as error:
                pause = max(pause, self._contained.pause_seconds(""))
                log.error("CRLs not planned", reason=str(error))
            await self._wake.wait(seen, min(pause, _LOOK_AGAIN_SECONDS))

    async def make_if_due(self, name: str) -> None:
        """Make the CRLs of one CA that are due or wanted."""
        async with self._making:
            await self._make_if_due(name)
        self._schedule.put(name, self._next_look(self._authorities.get(name)))

    async def _plan(self) -> None:
        """Learn by two questions to the store when each CA is to be looked at. No CA is loaded."""
        self._is_planned = True
        try:
            self._put_all(await self._store.crl_outlook())
        except Exception:
            self._is_planned = False
            raise

    def _put_all(self, outlook: Mapping[str, CrlOutlook]) -> None:
        self._schedule.clear()
        for name, authority_id, spec in self._authorities.crl_orders():
            lists = outlook.get(authority_id)
            is_settled = (
                lists is not None
                and lists.count == spec.shards + 1
                and not (spec.on_revocation and lists.is_uncovered)
                and spec.delta_validity_seconds == 0
            )
            due = lists.next_update - spec.overlap_seconds if lists and is_settled else 0
            self._schedule.put(name, due)

    async def _look(self, name: str) -> None:
        if not self._authorities.has(name):
            self.last_error.pop(name, None)
            return
        pause = self._contained.pause_seconds(name)
        if pause > 0:
            # Revocations go on, and each would have it tried at once.
            self._schedule.put(name, self._clock.now() + pause)
            return
        try:
            with self._contained.around(name):
                await self.make_if_due(name)
            self.last_error.pop(name, None)
        except (NodeAgentError, TimeoutError) as error:
            self.last_error[name] = str(error)
            self._unlooked.add(name)
            pause = max(_RETRY_SECONDS, self._contained.pause_seconds(name))
            self._schedule.put(name, self._clock.now() + pause)
            log.error("CRL not made", authority=name, reason=str(error))

    def _next_look(self, authority: LoadedAuthority) -> float:
        spec = authority.spec.crl
        heads = [self.newest.get((authority.name, shard)) for shard in range(spec.shards + 1)]
        if spec.delta_validity_seconds > 0 or None in heads:
            return self._clock.now() + _LOOK_AGAIN_SECONDS
        return min(head.next_update for head in heads if head) - spec.overlap_seconds

    async def make(self, name: str, *, shard: int = 0) -> CrlRecord:
        """Make a full CRL of a CA now."""
        authority = self._authorities.get(name)
        self._authorities.check_crl(authority)
        async with self._making:
            start = await self._begin(authority, shard)
            # Asked for by name: it is made, whatever another node made meanwhile.
            start = dataclasses.replace(start, newest=start.number)
            return await self._make(authority, shard, start)

    def _look_soon(self, name: str) -> None:
        self._unlooked.add(name)
        self._hurry(name)

    def _hurry(self, name: str) -> None:
        self._schedule.hurry(name)
        self._wake.announce()

    async def _make_if_due(self, name: str) -> None:
        authority = self._authorities.get(name)
        self._authorities.check_crl(authority)
        wanted = await self._wanted_shards(authority)
        for shard in range(authority.spec.crl.shards + 1):
            await self._make_shard_if_due(authority, shard, is_wanted=shard in wanted)

    async def _make_shard_if_due(
        self, authority: LoadedAuthority, shard: int, *, is_wanted: bool
    ) -> None:
        spec = authority.spec.crl
        has_delta = spec.delta_validity_seconds > 0
        full = await self._newest(authority, shard)
        now = self._clock.now()
        is_due = full is None or full.next_update - spec.overlap_seconds <= now
        if is_due or (is_wanted and not has_delta):
            full = await self._make_once(authority, shard, seen=full)
        if has_delta and full is not None:
            delta = await self._store.crl_head(authority.authority_id, shard=shard, delta=True)
            overlap = spec.delta_validity_seconds // 4
            if is_wanted or delta is None or delta.next_update - overlap <= now:
                await self._make_once(authority, shard, seen=delta, base=full)

    async def _wanted_shards(self, authority: LoadedAuthority) -> Container[int]:
        """Return the shards of which somebody asked for a CRL, or whose newest one lacks a change
        of status.

        The store knows the latter, so that a change is not forgotten with the node that made it.
        """
        name, spec = authority.name, authority.spec.crl
        is_unlooked = name in self._unlooked or (name, 0) not in self.newest
        is_wanted = name in self._wanted
        self._unlooked.discard(name)
        self._wanted.discard(name)
        if is_wanted:
            return range(spec.shards + 1)
        if not (is_unlooked and spec.on_revocation):
            return ()
        has_delta = spec.delta_validity_seconds > 0
        return await self._store.uncovered_shards(authority.authority_id, delta=has_delta)

    async def _newest(self, authority: LoadedAuthority, shard: int) -> CrlHead | None:
        key = (authority.name, shard)
        known = self.newest.get(key)
        if known is None:
            known = await self._store.crl_head(authority.authority_id, shard=shard)
            if known is not None:
                self.newest[key] = known
        return known

    async def _make_once(
        self,
        authority: LoadedAuthority,
        shard: int,
        *,
        seen: CrlHead | None,
        base: CrlHead | None = None,
    ) -> CrlHead | None:
        """Make a CRL unless another node has since ``seen``; return the newest full one."""
        start = await self._begin(authority, shard, delta=base is not None)
        # What was decided on is what was seen, not what another node has put there since.
        start = dataclasses.replace(start, newest=seen.number if seen else 0)
        try:
            await self._make(authority, shard, start, base=base)
        except Superseded as reason:
            log.info("CRL not needed", authority=authority.name, shard=shard, reason=str(reason))
            self.newest.pop((authority.name, shard), None)
        return await self._newest(authority, shard)

    async def _begin(
        self, authority: LoadedAuthority, shard: int, *, delta: bool = False
    ) -> CrlStart:
        """Begin a list, in the second after its predecessor's at the earliest.

        Two of one second had one Last-Modified, and a client that asks by it would be told that it
        has the newest. What is revoked in a burst is then in one list, too.
        """
        last = await self._store.crl_head(authority.authority_id, shard=shard, delta=delta)
        early = last.this_update + 1 - self._clock.now() if last else 0.0
        if 0 < early <= 1:
            await self._clock.sleep(early)
        return await self._store.begin_crl(authority.authority_id, shard=shard, delta=delta)

    async def _make(
        self,
        authority: LoadedAuthority,
        shard: int,
        start: CrlStart,
        *,
        base: CrlHead | None = None,
    ) -> CrlRecord:
        now = int(self._clock.now())
        record = await make_crl(
            self._store,
            self._authorities,
            authority,
            shard=shard,
            start=start,
            now=now,
            base=base,
        )
        if record.this_update > now:
            log.warning(
                "CRL dated after its predecessor: the clock was set back",
                authority=authority.name,
                seconds=record.this_update - now,
            )
        await self._store.record_crl(record, encode(crl_payload(record)), start=start)
        if base is None:
            self.newest[authority.name, shard] = CrlHead(
                number=record.number,
                this_update=record.this_update,
                next_update=record.next_update,
                covers=start.covers,
            )
        log.info(
            "CRL made",
            authority=authority.name,
            shard=shard,
            number=record.number,
            delta=base is not None,
        )
        self._changed.announce()
        self._on_crl(record)
        return record
