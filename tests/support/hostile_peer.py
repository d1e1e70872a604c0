"""A taken-over node: it has the node's name, a valid certificate and its port, and no manners.

It takes the place of an agent that the test stopped. The CA dials it as it dialled that agent, and
the test then sends up that link whatever it likes.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node_agent.config import parse_address
from node_agent.identity import NodeIdentity
from node_agent.net import IdentityHolder, NetSettings, RawAnswer, TlsIdentity, TlsNetwork
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.caller import PeerCaller
from node_agent.peers.directory import Directory
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_roles
from node_agent.wire import Status

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from node_agent.net import IncomingCall, Link, Listener
    from tests.support.agents import Topology
    from tests.support.node_process import Agent

__all__ = ["HostilePeer", "certified_holder"]

ResultT = TypeVar("ResultT")


def certified_holder(topology: Topology, identity: str) -> IdentityHolder:
    """Return a key that the Management CA certified as ``identity``, as the CA's operator would."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    issued = topology.ca.admin.post(
        "/v1/management-certificates",
        {
            "csr": csr.public_bytes(serialization.Encoding.PEM).decode(),
            "purpose": "peer",
            "identity": identity,
        },
    )
    anchors = [x509.load_pem_x509_certificate(pem.encode()) for pem in issued["trust_anchors"]]
    chain = x509.load_pem_x509_certificates(issued["certificate"].encode())
    return IdentityHolder(TlsIdentity(private_key=key, chain=chain, trust_anchors=anchors))


class HostilePeer:
    """``agent``'s place at its peer address; a context manager. Runs in a thread of its own."""

    def __init__(self, topology: Topology, agent: Agent) -> None:
        self.holder = certified_holder(topology, agent.identity)
        self.upstream = NodeIdentity.parse(topology.ca.identity)
        self._address = parse_address(agent.listen["peer"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: Listener | None = None
        self._links: list[Link] = []
        self.directory = Directory(clock=self.holder.clock)
        self.directory.admits = lambda peer: True
        self.caller = PeerCaller(
            identity=self.holder,
            certificates=PeerCertificates(self.holder),
            directory=self.directory,
            roles=lambda: _everything_to(self.upstream),
        )

    def __enter__(self) -> HostilePeer:
        self._thread.start()
        self.run(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return the coroutine's result from the peer's own loop, or raise what it raised."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    @property
    def serial(self) -> str:
        """The serial number of its certificate as the admin API writes it."""
        return f"{self.holder.current.chain[0].serial_number:x}"

    def is_linked(self) -> bool:
        """Whether the CA has a link with it."""
        return self.directory.is_connected(self.upstream)

    def send(self, method: str, payload: bytes, *, request_id: bytes) -> RawAnswer:
        """Send a request as it is, past everything that would sign or check it."""
        return self.run(self._send(method, payload, request_id))

    async def _send(self, method: str, payload: bytes, request_id: bytes) -> RawAnswer:
        link: Link = self.directory.links(self.upstream)[0]
        return await link.call(method, payload, request_id=request_id, timeout_seconds=10)

    async def _listen(self) -> None:
        def on_link(link: Link) -> None:
            self._links.append(link)
            self.directory.add(link)

        self._listener = await TlsNetwork().listen(
            self._address,
            identity=self.holder,
            on_link=on_link,
            handler=_swallow,
            settings=NetSettings(),
        )

    async def _close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        # Every link there ever was: one that the CA has ended may still be taking its leave.
        for link in self._links:
            link.abort()
        for link in self._links:
            await link.wait_closed()
        # A handshake that was broken off gives its socket back in the loop's next turns.
        for _ in range(5):
            await asyncio.sleep(0)


async def _swallow(call: IncomingCall) -> RawAnswer:
    """Take what is published and say nothing of use."""
    return RawAnswer(Status.DENIED, b"")


def _everything_to(node: NodeIdentity) -> RoleSet:
    rules = (AccessRule(resource="/peer/**"), AccessRule(resource="/ca/**"))
    return parse_roles([PeerRoleSpec(name="upstream", members=(node.uri,), rules=rules)])
