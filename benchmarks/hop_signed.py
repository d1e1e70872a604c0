"""A whole operation over a link: envelope signed and verified at both ends, decided by the one
dispatcher, with a handler that does nothing. What an enrolment costs before any PKI.
"""

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
from node_agent.net import IdentityHolder, Link, NetSettings, TlsNetwork
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.caller import PeerCaller
from node_agent.peers.directory import Directory
from node_agent.peers.dispatcher import Context, Dispatcher
from node_agent.peers.operations import ENROLL, CertificateAnswer, EnrollRequest
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_role
from tests.support.pki import TRUST_DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

    from node_agent.store.records import AuditRecord

__all__ = ["call", "serve"]

# Envelope, chain and frames make up the rest of REQUEST_BYTES and ANSWER_BYTES.
_ENVELOPE_BYTES = 900


class _End:
    """One node's peers layer, without a store: audit records are counted and dropped."""

    def __init__(self, identity: IdentityHolder, *, peer: str, resources: tuple[str, ...]) -> None:
        self.identity = identity
        self.records = 0
        rules = tuple(AccessRule(resource=resource) for resource in resources)
        member = NodeIdentity(TRUST_DOMAIN, peer).uri
        roles = RoleSet([parse_role(PeerRoleSpec(name="bench", members=(member,), rules=rules))])
        certificates = PeerCertificates(identity)
        self.directory = Directory(clock=identity.clock)
        self.dispatcher = Dispatcher(
            identity=identity,
            certificates=certificates,
            directory=self.directory,
            audit=self._audit,
            roles=roles,
            holds_audience=lambda audience: True,
        )
        self.caller = PeerCaller(
            identity=identity,
            certificates=certificates,
            directory=self.directory,
            roles=lambda: roles,
        )

    def take_up(self, link: Link) -> None:
        """Count a link among those that calls may use."""
        self.directory.add(link)

    async def _audit(self, record: AuditRecord) -> None:
        self.records += 1


async def serve(directory: Path) -> None:
    """Print the port and answer until cancelled."""
    resources = ("/peer/incoming", "/ra/enroll", "/ca/**", "/profile/**", "/protocol/rest")
    end = _End(load_identity(directory, SERVER), peer=CALLER, resources=resources)
    answer = CertificateAnswer(chain=(os.urandom(ANSWER_BYTES - _ENVELOPE_BYTES),))

    async def enroll(context: Context, request: EnrollRequest) -> CertificateAnswer:
        return answer

    end.dispatcher.register(ENROLL, enroll)
    listener = await TlsNetwork().listen(
        Address("127.0.0.1", 0),
        identity=end.identity,
        on_link=end.take_up,
        handler=end.dispatcher.handle,
        settings=NetSettings(),
    )
    print(listener.address.port, flush=True)
    await asyncio.get_running_loop().create_future()


async def call(directory: Path, port: int, seconds: float) -> dict[str, float]:
    """Return the latencies."""
    resources = ("/peer/incoming", "/peer/upstream", "/ca/**")
    end = _End(load_identity(directory, CALLER), peer=SERVER, resources=resources)
    server = NodeIdentity(TRUST_DOMAIN, SERVER)
    link = await TlsNetwork().dial(
        Address("127.0.0.1", port),
        identity=end.identity,
        expected=server,
        handler=end.dispatcher.handle,
        settings=NetSettings(),
    )
    end.take_up(link)
    request = EnrollRequest(
        authority="issuing", profile="server", csr=os.urandom(REQUEST_BYTES - _ENVELOPE_BYTES)
    )

    async def exchange() -> None:
        await end.caller.call(ENROLL, request, peers=[server], timeout_seconds=10)

    try:
        return await take_latencies(exchange, seconds)
    finally:
        link.abort()
        await link.wait_closed()
