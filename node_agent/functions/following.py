"""Follow what the other nodes of a shared store do.

Every write locks and updates the store's one row of heads anyway. So one cheap read of that row a
few times a second tells whether there is something new; only then more is read. The change log says
which statuses and CRLs have changed, the revision that objects have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog

from node_agent.errors import NodeAgentError, TokenError
from node_agent.functions.containment import Containment
from node_agent.store.records import ChangeKind, FollowedEntry, StoreHeads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from node_agent.clock import Clock
    from node_agent.functions.signal import ChangeSignal
    from node_agent.store.api import Reader

__all__ = ["Follower", "StoreFollower"]

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.2
"""A role that is taken away at one node ends the links at the others this much later."""

_RETRY_SECONDS: Final = 1.0

_KEY_SECONDS: Final = 15.0
"""Trying a passphrase is slow on purpose, and an operator has to act anyway."""

_MOST_ENTRIES: Final = 5000
"""What is looked at one by one; behind more than that, everything kept is forgotten instead."""


class Follower(Protocol):
    """The running node, as it follows others. Its own work comes past here, too."""

    def status_changed(self, authority_id: str, serial: int) -> None:
        """A certificate's status is another one, or it is new."""
        ...

    def status_listed(self, authority_id: str) -> None:
        """Statuses of a CA have changed, so that its next CRL differs."""
        ...

    async def crl_changed(self, authority_id: str) -> None:
        """A CA has a newer CRL."""
        ...

    async def everything_changed(self) -> None:
        """More has changed than is worth looking at."""
        ...

    async def settled(self) -> None:
        """Return once all of that is in force here."""
        ...


class StoreFollower:
    """Run with ``run()``. ``refresh`` takes over objects and keys, as management does; ``begin`` is
    how far the store was before the node loaded anything of it.
    """

    def __init__(
        self,
        store: Reader,
        *,
        follower: Follower,
        refresh: Callable[[], Awaitable[None]],
        changed: ChangeSignal,
        clock: Clock,
        begin: StoreHeads,
    ) -> None:
        self._store = store
        self._follower = follower
        self._refresh = refresh
        self._changed = changed
        self._clock = clock
        self._position = begin.position
        self._revision = begin.revision
        self._contained = Containment("store follower", clock=clock)
        self.last_error: str | None = None

    async def run(self) -> None:
        """Follow until cancelled. A store that is away is asked again."""
        while True:
            pause = LOOK_SECONDS
            try:
                with self._contained.around(""):
                    await self.look()
                self.last_error = None
            except (NodeAgentError, TimeoutError) as error:
                pause = _KEY_SECONDS if isinstance(error, TokenError) else _RETRY_SECONDS
                pause = max(pause, self._contained.pause_seconds(""))
                if self.last_error != str(error):
                    log.error("other nodes' changes can't be followed", reason=str(error))
                self.last_error = str(error)
            await self._clock.sleep(pause)

    async def look(self) -> None:
        """Take over what is new. Raises StoreError, TokenError."""
        heads = await self._store.heads()
        if heads.revision != self._revision:
            await self._refresh()
            self._revision = heads.revision
        if heads.position > self._position:
            await self._follow_log(heads.position)
            await self._follower.settled()
            self._changed.announce()

    async def _follow_log(self, end: int) -> None:
        entries: Sequence[FollowedEntry] = ()
        if end - self._position <= _MOST_ENTRIES:
            entries = await self._store.followed(self._position, limit=_MOST_ENTRIES)
            await self._follow_entries(entries)
        else:
            await self._follower.everything_changed()
        self._position = max([end, *(entry.position for entry in entries[-1:])])

    async def _follow_entries(self, entries: Sequence[FollowedEntry]) -> None:
        listed = {e.authority_id for e in entries if e.kind is ChangeKind.STATUS}
        with_crl = {e.authority_id for e in entries if e.kind is ChangeKind.CRL}
        for entry in entries:
            if entry.serial is not None:
                self._follower.status_changed(entry.authority_id, entry.serial)
        for authority_id in sorted(listed):
            self._follower.status_listed(authority_id)
        for authority_id in sorted(with_crl):
            await self._follower.crl_changed(authority_id)
