"""A call over a link of the peer protocol, without envelope, policy or handler."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from benchmarks.hop_ends import (
    ANSWER_BYTES,
    CALLER,
    REQUEST_BYTES,
    SERVER,
    load_identity,
    take_latencies,
)
from node_agent.config import Address
from node_agent.identity import NodeIdentity
from node_agent.net import IncomingCall, NetSettings, RawAnswer, TlsNetwork
from node_agent.wire import Status
from tests.support.pki import TRUST_DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["call", "serve"]


async def serve(directory: Path) -> None:
    """Print the port and answer until cancelled."""
    answer = RawAnswer(Status.OK, os.urandom(ANSWER_BYTES))

    async def handle(_: IncomingCall) -> RawAnswer:
        return answer

    listener = await TlsNetwork().listen(
        Address("127.0.0.1", 0),
        identity=load_identity(directory, SERVER),
        on_link=lambda link: None,
        handler=handle,
        settings=NetSettings(),
    )
    print(listener.address.port, flush=True)
    await asyncio.get_running_loop().create_future()


async def call(directory: Path, port: int, seconds: float) -> dict[str, float]:
    """Return the latencies."""

    async def refuse(_: IncomingCall) -> RawAnswer:
        return RawAnswer(Status.DENIED)

    link = await TlsNetwork().dial(
        Address("127.0.0.1", port),
        identity=load_identity(directory, CALLER),
        expected=NodeIdentity(TRUST_DOMAIN, SERVER),
        handler=refuse,
        settings=NetSettings(),
    )
    payload = os.urandom(REQUEST_BYTES)

    async def exchange() -> None:
        answer = await link.call(
            "ra.enroll", payload, request_id=os.urandom(16), timeout_seconds=10
        )
        assert len(answer.payload) == ANSWER_BYTES

    try:
        return await take_latencies(exchange, seconds)
    finally:
        link.abort()
        await link.wait_closed()
