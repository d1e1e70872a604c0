"""The dials of a pool: one task each, and however it ends, the slot hears of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from node_agent.errors import NodeAgentError

if TYPE_CHECKING:
    import asyncio

    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import NetSettings, Network
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder
    from node_agent.pool.slot import Slot

__all__ = ["DialOutcome", "Dialing"]

log = structlog.get_logger(__name__)


class DialOutcome(Protocol):
    """Who is told how a dial ended. Exactly one of these is called, unless it was given up."""

    def dial_succeeded(self, slot: Slot[Link], link: Link) -> None:
        """Take the link, or end it."""
        ...

    def dial_failed(self, slot: Slot[Link], reason: str) -> None:
        """Take in why there is no link."""
        ...

    def dial_ended(self, slot: Slot[Link]) -> None:
        """Free the slot if it has no link; called last, also after giving up."""
        ...


@dataclass(slots=True)
class Dialing:
    """Make links to ``peer`` at ``address`` as ``identity``; all may change between dials."""

    network: Network
    identity: IdentityHolder
    handler: CallHandler
    outcome: DialOutcome
    address: Address
    peer: NodeIdentity
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def target(self) -> tuple[Address, NodeIdentity, IdentityHolder]:
        """Who is dialled, and as whom."""
        return self.address, self.peer, self.identity

    def begin(self, slot: Slot[Link], settings: NetSettings, group: asyncio.TaskGroup) -> None:
        """Start the slot's dial."""
        task = self.tasks[slot.slot_id] = group.create_task(self._dial(slot, settings))
        # Not in the task itself: cancelled before its first step, it does nothing at all.
        task.add_done_callback(lambda _: self._end(slot))

    def give_up(self, slot: Slot[Link]) -> None:
        """Cancel the slot's dial; what it opened is closed."""
        self.tasks[slot.slot_id].cancel()

    def give_up_all(self) -> None:
        """Cancel every dial."""
        for task in self.tasks.values():
            task.cancel()

    async def _dial(self, slot: Slot[Link], settings: NetSettings) -> None:
        try:
            link = await self.network.dial(
                self.address,
                identity=self.identity,
                expected=self.peer,
                handler=self.handler,
                settings=settings,
            )
        except NodeAgentError as error:
            self.outcome.dial_failed(slot, str(error))
        except Exception as error:
            # A task's root: a defect in a dial must not end the pool with all its links.
            log.exception("dial failed unexpectedly", peer=self.peer.uri)
            self.outcome.dial_failed(slot, type(error).__name__)
        else:
            self.outcome.dial_succeeded(slot, link)

    def _end(self, slot: Slot[Link]) -> None:
        self.tasks.pop(slot.slot_id, None)
        self.outcome.dial_ended(slot)
