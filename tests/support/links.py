"""Two real ends on loopback: a listener, its links, and a dialler; tests steer the handlers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node_agent.config import Address
from node_agent.net import Link, NetSettings, RawAnswer, TlsNetwork
from node_agent.wire import Status
from tests.support.pki import ThrowawayAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from node_agent.net import CallHandler, IdentityHolder, IncomingCall
    from node_agent.net.listener import TlsListener

__all__ = ["REQUEST_ID", "Ends", "answer_at_once", "linked", "until"]

REQUEST_ID = bytes(range(16))
ANY_PORT = Address("127.0.0.1", 0)


async def answer_at_once(call: IncomingCall) -> RawAnswer:
    """Answer with what was asked, and how long the body was."""
    size = 0
    async for chunk in call.body:
        size += len(chunk)
    return RawAnswer(Status.OK, call.payload + (f" +{size}".encode() if size else b""))


async def until(condition: Callable[[], object], *, timeout_seconds: float = 10) -> None:
    """Wait until ``condition()`` is true; raises TimeoutError."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.002)


@dataclass
class Ends:
    """A listener ``ra1`` and a dialler ``ca1`` under one Management CA."""

    authority: ThrowawayAuthority = field(default_factory=ThrowawayAuthority)
    handler: CallHandler = answer_at_once
    dialler_handler: CallHandler = answer_at_once
    listener_settings: NetSettings = field(default_factory=NetSettings)
    dialler_settings: NetSettings = field(default_factory=NetSettings)

    def __post_init__(self) -> None:
        self.network = TlsNetwork()
        self.listening: IdentityHolder = self.authority.holder("ra1")
        self.dialling: IdentityHolder = self.authority.holder("ca1")
        self.accepted: list[Link] = []
        self.dialled: list[Link] = []
        self.listener: TlsListener | None = None

    async def listen(self) -> None:
        """Open the port."""
        self.listener = await self.network.listen(
            ANY_PORT,
            identity=self.listening,
            on_link=self.accepted.append,
            handler=self.handler,
            settings=self.listener_settings,
        )

    @property
    def address(self) -> Address:
        """Where the listener is."""
        assert self.listener is not None
        return self.listener.address

    async def dial(
        self, address: Address | None = None, *, identity: IdentityHolder | None = None
    ) -> Link:
        """Dial the listener, directly unless ``address`` says else."""
        link = await self.network.dial(
            address or self.address,
            identity=identity or self.dialling,
            expected=self.listening.node,
            handler=self.dialler_handler,
            settings=self.dialler_settings,
        )
        self.dialled.append(link)
        return link

    async def close(self) -> None:
        """Cut every link, close the port, and see everything end."""
        if self.listener is not None:
            await self.listener.close()
        links = [*self.dialled, *self.accepted]
        for link in links:
            link.abort()
        for link in links:
            await link.wait_closed()


@asynccontextmanager
async def linked(ends: Ends | None = None) -> AsyncIterator[tuple[Link, Link, Ends]]:
    """Yield the dialled link, its accepted counterpart, and the ends; leave nothing behind."""
    ends = ends or Ends()
    await ends.listen()
    try:
        near = await ends.dial()
        await until(lambda: ends.accepted)
        yield near, ends.accepted[0], ends
    finally:
        await ends.close()
