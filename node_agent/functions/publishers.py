"""The node's publishers as running tasks: one for each specification, replaced when it changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node_agent.functions.node_objects import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.functions.publisher_lanes import PublisherLanes
    from node_agent.objects import PublisherSpec

__all__ = ["Publishers"]


class Publishers:
    """Owns a task for each publisher. ``make`` builds the publisher of a specification."""

    def __init__(self, make: Callable[[PublisherSpec], PublisherLanes]) -> None:
        self._make = make
        self._running: dict[str, tuple[PublisherLanes, asyncio.Task[None]]] = {}

    def all(self) -> Iterable[PublisherLanes]:
        """Return every running publisher by name."""
        return [self._running[name][0] for name in sorted(self._running)]

    def named(self, name: str) -> PublisherLanes:
        """Return a running publisher. Raises NotFound."""
        if name not in self._running:
            raise unknown(f"publisher {name!r}", self._running)
        return self._running[name][0]

    async def configure(
        self, specs: Iterable[PublisherSpec], tasks: asyncio.TaskGroup, *, restart: bool = False
    ) -> None:
        """Run what is specified; stop what isn't. ``restart``: the CAs behind them have changed."""
        wanted = {spec.name: spec for spec in specs}
        for name, (publisher, _) in list(self._running.items()):
            if restart or wanted.get(name) != publisher.spec:
                await self._stop(name)
        for name, spec in wanted.items():
            if name not in self._running:
                publisher = self._make(spec)
                task = tasks.create_task(publisher.run(), name=f"publisher-{name}")
                self._running[name] = (publisher, task)

    async def close(self) -> None:
        """Stop every publisher."""
        for name in list(self._running):
            await self._stop(name)

    async def _stop(self, name: str) -> None:
        _, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
