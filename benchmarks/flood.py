"""``python -m benchmarks.flood``: a hostile node that asks without end, with all that it is given.

It reads what it needs (``Flood``, as JSON) from standard input, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop
from cryptography.hazmat.primitives import serialization

from node_agent.config import parse_address
from node_agent.errors import LinkClosed, LocalProtocolError
from node_agent.identity import NodeIdentity
from node_agent.net import IncomingCall, Link, NetSettings, RawAnswer, TlsNetwork
from node_agent.net.tls import IdentityHolder, TlsIdentity
from node_agent.peers.envelope import sign_request
from node_agent.peers.operations import StatusRequest
from node_agent.wire import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Flood", "Key", "main"]

METHOD = "ra.status"
# A grant may shrink with each further link of the same peer: count when all of them are there.
_SETTLING_SECONDS = 0.3


class Key(msgspec.Struct, frozen=True):
    """An authenticator: PEM."""

    private_key: str
    chain: str
    trust_anchors: str

    @classmethod
    def of(cls, holder: IdentityHolder) -> Key:
        """Write a holder's own down."""
        current, pem = holder.current, serialization.Encoding.PEM
        key = current.private_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(
            key.decode(),
            "".join(item.public_bytes(pem).decode() for item in current.chain),
            "".join(item.public_bytes(pem).decode() for item in current.trust_anchors),
        )

    def holder(self) -> IdentityHolder:
        """Read it again."""
        key: Any = serialization.load_pem_private_key(self.private_key.encode(), None)
        return IdentityHolder(
            TlsIdentity.from_pem(
                private_key=key, chain=self.chain, trust_anchors=[self.trust_anchors]
            )
        )


class Flood(msgspec.Struct, frozen=True):
    """Dial ``links`` times to ``peer`` at ``address``, or with ``listens`` be dialled there, and
    ask for the status of a certificate of ``authority``, signed by ``signer``.
    """

    own: Key
    signer: Key
    address: str
    peer: str
    authority: str
    serial: str
    links: int = 1
    listens: bool = False


async def _deny(call: IncomingCall) -> RawAnswer:
    return RawAnswer(Status.DENIED)


async def _ask_for_ever(link: Link, signer: IdentityHolder, flood: Flood) -> None:
    request = StatusRequest(authority=flood.authority, serial=bytes.fromhex(flood.serial))
    payload = msgspec.msgpack.encode(request)
    while True:
        request_id = secrets.token_bytes(16)
        message = sign_request(
            signer,
            method=METHOD,
            request_id=request_id,
            audience=f"ca/{flood.authority}",
            requester="flood",
            payload=payload,
        ).message
        try:
            await link.call(METHOD, message, request_id=request_id, timeout_seconds=30)
        except (LocalProtocolError, LinkClosed):
            await asyncio.sleep(0.01)


async def _links(flood: Flood) -> Sequence[Link]:
    network, address, own = TlsNetwork(), parse_address(flood.address), flood.own.holder()
    settings = NetSettings()
    if not flood.listens:
        return [
            await network.dial(
                address,
                identity=own,
                expected=NodeIdentity.parse(flood.peer),
                handler=_deny,
                settings=settings,
            )
            for _ in range(flood.links)
        ]
    came: asyncio.Queue[Link] = asyncio.Queue()
    await network.listen(
        address, identity=own, on_link=came.put_nowait, handler=_deny, settings=settings
    )
    return [await came.get()]


async def _flood(flood: Flood) -> None:
    links, signer = await _links(flood), flood.signer.holder()
    await asyncio.sleep(_SETTLING_SECONDS)
    async with asyncio.TaskGroup() as tasks:
        for link in links:
            for _ in range(max(1, link.available_credits)):
                tasks.create_task(_ask_for_ever(link, signer, flood))
        print("flooding", flush=True)


def main() -> int:
    """Flood until the process is ended."""
    uvloop.run(_flood(msgspec.convert(json.load(sys.stdin), Flood)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
