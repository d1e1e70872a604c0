"""``python -m benchmarks.flood``: a hostile tenant that asks for what it may not, without end,
over as many links as it is allowed, each with all the credits that it was ever granted.

It reads what it needs as JSON from standard input, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys

import msgspec
import uvloop
from cryptography.hazmat.primitives import serialization

from node_agent.config import parse_address
from node_agent.errors import LinkClosed, LocalProtocolError
from node_agent.identity import NodeIdentity
from node_agent.net import IncomingCall, Link, NetSettings, RawAnswer, TlsNetwork
from node_agent.net.tls import IdentityHolder, TlsIdentity
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import SearchRequest
from node_agent.wire import Status

__all__ = ["main"]

METHOD = "ra.search"
_LINKS = NetSettings().max_links_per_peer


async def _deny(call: IncomingCall) -> RawAnswer:
    return RawAnswer(Status.DENIED)


async def _ask_for_ever(link: Link, holder: IdentityHolder, authority: str) -> None:
    payload = msgspec.msgpack.encode(SearchRequest(authority=authority))
    while True:
        request_id = secrets.token_bytes(16)
        message = sign_request(
            holder,
            method=METHOD,
            request_id=request_id,
            audience=f"ca/{authority}",
            requester="flood",
            payload=payload,
        ).message
        try:
            await link.call(METHOD, message, request_id=request_id, timeout_seconds=30)
        except (LocalProtocolError, LinkClosed):
            await asyncio.sleep(0.01)


async def _flood(given: dict[str, str]) -> None:
    key = serialization.load_pem_private_key(given["private_key"].encode(), None)
    holder = IdentityHolder(
        TlsIdentity.from_pem(
            private_key=key,
            chain=given["chain"],
            trust_anchors=[given["trust_anchors"]],
        )
    )
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_LINKS):
            link = await TlsNetwork().dial(
                parse_address(given["address"]),
                identity=holder,
                expected=NodeIdentity.parse(given["peer"]),
                handler=_deny,
                settings=NetSettings(),
            )
            for _ in range(link.available_credits):
                tasks.create_task(_ask_for_ever(link, holder, given["authority"]))


def main() -> int:
    """Flood until the process is ended."""
    uvloop.run(_flood(json.load(sys.stdin)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
