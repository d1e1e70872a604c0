"""The parts of a running node, each made what the committed objects say.

An object is committed before it is followed, so following must not fail for good: a port may be
busy for now, and what was stored years ago may not be usable today. A part that can't do its work
keeps no other from doing its own, nor the node from running. What isn't done is remembered, told,
and tried again: by the next plan, and from time to time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from node_agent.errors import NodeAgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence

    from node_agent.clock import Clock

__all__ = ["Part", "Parts"]

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 5.0


def _no_faults() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a node does, ``name`` to people, as objects of ``kinds`` say.

    ``follow`` makes it so, however often it is called. ``faults`` returns which objects
    (``kind.name``) it couldn't put to work, and why; if it raises, none of them is.
    """

    name: str
    kinds: frozenset[str]
    follow: Callable[[], Coroutine[Any, Any, None]]
    faults: Callable[[], Mapping[str, str]] = _no_faults


class Parts:
    """All parts, in the order in which they follow. ``run()`` tries again what isn't done."""

    def __init__(self, parts: Sequence[Part], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._due: set[str] = set()
        self._causes: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._following = asyncio.Lock()

    @property
    def faults(self) -> dict[str, str]:
        """What isn't done, by object (``kind.name``) or name of the part: why."""
        found = dict(self._causes)
        for part in self._parts:
            found.update(part.faults())
        return found

    def faults_of(self, objects: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return what isn't done for these objects, and in parts that depend on their kinds."""
        objects = set(objects)
        kinds = {kind for kind, _ in objects}
        concerned = {f"{kind}.{name}" for kind, name in objects}
        concerned |= {part.name for part in self._parts if part.kinds & kinds}
        return {what: cause for what, cause in self.faults.items() if what in concerned}

    async def follow(self, kinds: Collection[str]) -> None:
        """Have every part follow that depends on objects of ``kinds``, or isn't done yet."""
        # Marked before the first of them: who is cancelled in between leaves the rest to ``run``.
        self._mark(kinds)
        async with self._following:
            await self._catch_up()

    async def catch_up(self) -> None:
        """Try again what isn't done."""
        async with self._following:
            if self._due or self.faults:
                await self._catch_up()

    async def run(self) -> None:
        """Try again from time to time until cancelled."""
        while True:
            await self._clock.sleep(_RETRY_SECONDS)
            await self.catch_up()

    async def _catch_up(self) -> None:
        # What one part gets right another may have waited for: links need the authenticator.
        failed = [part for part in self._parts if part.name in self._causes or part.faults()]
        self._mark(frozenset[str]().union(*(part.kinds for part in failed)))
        for part in self._parts:
            if part.name in self._due:
                await self._follow(part)
        self._tell()

    def _mark(self, kinds: Collection[str]) -> None:
        self._due.update(part.name for part in self._parts if not part.kinds.isdisjoint(kinds))

    async def _follow(self, part: Part) -> None:
        try:
            await part.follow()
        except Exception as error:  # the root of this part: it ends neither the others nor the node
            is_known = isinstance(error, NodeAgentError)
            self._causes[part.name] = str(error) if is_known else type(error).__name__
            if not is_known:
                log.exception("part failed unexpectedly", part=part.name)
        else:
            self._causes.pop(part.name, None)
            self._due.discard(part.name)

    def _tell(self) -> None:
        """Log what is new: the same cause isn't worth a line each time."""
        now = self.faults
        for what, cause in now.items():
            if self._told.get(what) != cause:
                log.error("not at work", what=what, reason=cause)
        for what in self._told.keys() - now.keys():
            log.info("at work again", what=what)
        self._told = now
