"""Take over objects and keys that another node of a shared store has written.

Objects in memory mirror the store. Here the mirror is brought up to date, only by who holds the
lock under which this node plans: first the rights, so that nobody keeps one because a key doesn't
open here, and then all the rest or nothing of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from node_agent.errors import PolicyDenied
from node_agent.functions import known_authorities
from node_agent.functions.node_objects import NodeObjects, load_object
from node_agent.functions.plan import BUILT_IN_TOKEN, Step
from node_agent.objects import KINDS, CryptoTokenSpec
from node_agent.store.records import ObjectChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_agent.functions.known_authorities import KnownAuthorities
    from node_agent.functions.tokens import Tokens
    from node_agent.store.api import Reader
    from node_agent.store.records import ObjectRecord

__all__ = ["ObjectRefresh"]

log = structlog.get_logger(__name__)

_RIGHTS: Final = frozenset({"peer_roles", "requesters"})


class Follows(Protocol):
    """The running node, as a refresh needs it."""

    def follow_rights(self) -> None:
        """Put the roles and the requesters' rules in force as the objects now say."""
        ...

    async def follow(self, steps: Sequence[Step], *, elsewhere: bool = False) -> None:
        """Make the running parts what the committed objects now say."""
        ...


class ObjectRefresh:
    """``revision`` is that of the store which the objects in memory show."""

    def __init__(
        self,
        *,
        store: Reader,
        objects: NodeObjects,
        tokens: Tokens,
        known: KnownAuthorities,
        revision: int,
    ) -> None:
        self._store = store
        self._objects = objects
        self._tokens = tokens
        self._known = known
        self.revision = revision
        # Rights that were taken over when the rest couldn't be.
        self._ahead: list[Step] = []

    async def refresh(self, runtime: Follows) -> None:
        """Take over what is new. Raises StoreError; TokenError for keys that don't open here."""
        revision = (await self._store.heads()).revision
        if revision == self.revision:
            return
        records = await self._store.objects()
        self._take_over_rights(records, runtime)
        await self._learn_keys(records)
        self._learn_authorities(records)
        changes, steps = self._difference(records)
        self._objects.apply(changes)
        self.revision = revision
        steps, self._ahead = [*self._ahead, *steps], []
        if steps:
            names = [f"{step.kind}/{step.name}" for step in steps]
            log.info("another node's changes taken over", objects=names)
            await runtime.follow(steps, elsewhere=True)

    def _take_over_rights(self, records: Sequence[ObjectRecord], runtime: Follows) -> None:
        changes, steps = self._difference(records)
        rights = [step for step in steps if step.kind in _RIGHTS]
        if rights:
            self._objects.apply([change for change in changes if change.kind in _RIGHTS])
            self._ahead += rights
            runtime.follow_rights()

    async def _learn_keys(self, records: Iterable[ObjectRecord]) -> None:
        specs = {BUILT_IN_TOKEN.name: BUILT_IN_TOKEN}
        for record in records:
            if record.kind == "crypto_tokens":
                spec = load_object(record).spec
                assert isinstance(spec, CryptoTokenSpec)
                specs[spec.name] = spec
        self._tokens.configure(specs.values())
        self._tokens.learn(await self._store.keys())
        await asyncio.to_thread(self._tokens.verify_new)

    def _learn_authorities(self, records: Iterable[ObjectRecord]) -> None:
        for record in records:
            if record.kind == known_authorities.KIND:
                try:
                    self._known.add(known_authorities.from_record(record))
                except PolicyDenied as denial:
                    log.warning("CA of another node not taken over", reason=denial.reason)

    def _difference(self, records: Sequence[ObjectRecord]) -> tuple[list[ObjectChange], list[Step]]:
        changes: list[ObjectChange] = []
        steps: list[Step] = []
        stored = {(record.kind, record.name): record for record in records if record.kind in KINDS}
        for (kind, name), record in stored.items():
            have, new = self._objects.find(kind, name), load_object(record)
            if have is None:
                steps.append(Step("create", kind, name, None, new.spec))
            elif (have.spec, have.state) != (new.spec, new.state):
                steps.append(Step("update", kind, name, have.spec, new.spec))
            else:
                continue
            changes.append(ObjectChange(kind=kind, name=name, record=record))
        for kind in KINDS:
            for item in self._objects.all(kind):
                if (kind, item.name) not in stored and item.spec != BUILT_IN_TOKEN:
                    steps.append(Step("delete", kind, item.name, item.spec, None))
                    changes.append(ObjectChange(kind=kind, name=item.name, record=None))
        return changes, steps
