"""``python -m benchmarks.idle_peers DIRECTORY COUNT``: so many RAs as one process, certified by the
CA node whose files are in DIRECTORY, with nobody who enrols at them.

It prints their names and addresses as a line of JSON. At each line ``ask`` it prints how many
catalogues came so far, and has each RA ask its CA for one every 30 s from then on; at ``rest`` it
prints that too, and none of them asks any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from node_agent.config import parse_address
from node_agent.identity import NodeIdentity
from node_agent.net import IdentityHolder, IncomingCall, NetSettings, RawAnswer, TlsNetwork
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.caller import PeerCaller
from node_agent.peers.directory import Directory
from node_agent.peers.operations import CATALOGUE, CatalogueRequest
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_roles
from node_agent.wire import Status
from tests.support.agents import Agent
from tests.support.hostile_node import certified_holder

if TYPE_CHECKING:
    from node_agent.net import Link
    from node_agent.net.backend import Listener

# What an RA does by itself: node_agent/functions/upstreams.py.
_REFRESH_SECONDS = 30.0


class IdlePeer:
    """The peer layer of one RA."""

    def __init__(self, holder: IdentityHolder, ca: NodeIdentity, roles: RoleSet) -> None:
        self._holder = holder
        self._ca = ca
        self._directory = Directory(clock=holder.clock)
        self._directory.admits = lambda peer: True
        self._caller = PeerCaller(
            identity=holder,
            certificates=PeerCertificates(holder),
            directory=self._directory,
            roles=lambda: roles,
        )
        self.listener: Listener | None = None
        self.answered = 0

    async def listen(self) -> str:
        """Open a port; return where."""
        self.listener = await TlsNetwork().listen(
            parse_address("127.0.0.1:0"),
            identity=self._holder,
            on_link=self._took,
            handler=_deny,
            settings=NetSettings(),
        )
        return str(self.listener.address)

    def _took(self, link: Link) -> None:
        self._directory.add(link)

    async def ask_for_ever(self, first_after_seconds: float) -> None:
        """Ask for the catalogue as often as an RA does."""
        await asyncio.sleep(first_after_seconds)
        while True:
            await self._caller.call(
                CATALOGUE, CatalogueRequest(), peers=[self._ca], timeout_seconds=10
            )
            self.answered += 1
            await asyncio.sleep(_REFRESH_SECONDS)


async def _deny(call: IncomingCall) -> RawAnswer:
    return RawAnswer(Status.DENIED)


def _roles(ca: NodeIdentity) -> RoleSet:
    resources = (
        "/peer/incoming",
        "/peer/upstream",
        "/peer/publish/crl",
        "/peer/publish/read",
        "/ca/**",
    )
    rules = tuple(AccessRule(resource=resource) for resource in resources)
    return parse_roles([PeerRoleSpec(name="upstream", members=(ca.uri,), rules=rules)])


async def _run(directory: Path, count: int) -> None:
    ca = Agent(directory, "ca1")
    node = NodeIdentity.parse(ca.identity)
    roles = _roles(node)
    identities = [NodeIdentity(node.trust_domain, f"idle{n}").uri for n in range(count)]
    peers = [IdlePeer(certified_holder(ca, identity), node, roles) for identity in identities]
    addresses = [await peer.listen() for peer in peers]
    print(json.dumps(list(zip(identities, addresses, strict=True))), flush=True)
    await _obey(peers)


async def _obey(peers: list[IdlePeer]) -> None:
    tasks: list[asyncio.Task[None]] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        for task in tasks:
            task.cancel()
        failed = [task for task in tasks if task.done() and not task.cancelled()]
        if failed:
            await failed[0]
        tasks = []
        if line.strip() == "ask":
            pace = _REFRESH_SECONDS / len(peers)
            tasks = [
                asyncio.create_task(peer.ask_for_ever(number * pace))
                for number, peer in enumerate(peers)
            ]
        print(json.dumps(sum(peer.answered for peer in peers)), flush=True)


if __name__ == "__main__":
    # What links log goes to standard output by default, where answers are expected.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    uvloop.run(_run(Path(sys.argv[1]), int(sys.argv[2])))
