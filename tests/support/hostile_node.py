"""A taken-over node: it has a node's name, a valid certificate, and no manners.

It may listen in the node's place, dial, send whatever it likes up its links, and answer what comes
in with ``handler``, which a test may replace. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node_agent.config import parse_address
from node_agent.identity import NodeIdentity
from node_agent.net import IdentityHolder, NetSettings, RawAnswer, TlsIdentity, TlsNetwork
from node_agent.objects import AccessRule, PeerRoleSpec
from node_agent.peers.caller import PeerCaller
from node_agent.peers.codec import ENCODER
from node_agent.peers.directory import Directory
from node_agent.peers.envelope import sign_request
from node_agent.peers.signature import PeerCertificates
from node_agent.policy import RoleSet, parse_roles
from node_agent.wire import Status

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from node_agent.net import IncomingCall, Link, Listener
    from node_agent.net.calls import CallHandler
    from node_agent.peers.operations import Operation
    from tests.support.node_process import Agent

__all__ = ["HostileNode", "certified_holder"]

ResultT = TypeVar("ResultT")

# More than a refused connection is given to take its leave.
_LEAVING_SECONDS = 25


def certified_holder(management: Agent, identity: str) -> IdentityHolder:
    """Return a key that the Management CA certified as ``identity``, as its operator would."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    issued = management.admin.post(
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


class HostileNode:
    """One node with ``holder``'s identity; a context manager. ``listen`` opens a peer port."""

    def __init__(self, holder: IdentityHolder, *, listen: str | None = None) -> None:
        self.holder = holder
        self.handler: CallHandler = _swallow
        self._listen_at = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: Listener | None = None
        self._links: list[Link] = []
        self.directory = Directory(clock=self.holder.clock)
        self.directory.admits = lambda peer: True
        self.believed: RoleSet = RoleSet()
        self.caller = PeerCaller(
            identity=self.holder,
            certificates=PeerCertificates(self.holder),
            directory=self.directory,
            roles=lambda: self.believed,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        if self._listen_at is not None:
            self.run(self._open(self._listen_at))
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
        """Return the coroutine's result from the node's own loop, or raise what it raised."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    @property
    def serial(self) -> str:
        """The serial number of its certificate as the admin API writes it."""
        return f"{self.holder.current.chain[0].serial_number:x}"

    def believe(self, *identities: str) -> None:
        """Take these nodes for CAs: whatever they answer is an answer."""
        rules = tuple(
            AccessRule(resource=resource)
            for resource in ("/peer/incoming", "/peer/upstream", "/peer/publish/*", "/ca/**")
        )
        self.believed = parse_roles([PeerRoleSpec(name="all", members=identities, rules=rules)])

    def believe_relay(self, identity: str) -> None:
        """Hand requests to this node, and believe everybody else's answers as before."""
        relay = PeerRoleSpec(
            name="relay",
            members=(identity,),
            rules=tuple(
                AccessRule(resource=f"/peer/{what}") for what in ("upstream", "relay", "incoming")
            ),
        )
        self.believed = RoleSet([*self.believed.roles, *parse_roles([relay]).roles])

    def dial(self, address: str, identity: str) -> Link:
        """Return a new link to an agent."""
        return self.run(self._dial(address, NodeIdentity.parse(identity)))

    def is_linked(self, identity: str) -> bool:
        """Whether a link with this node is up."""
        return self.directory.is_connected(NodeIdentity.parse(identity))

    def send(self, method: str, payload: bytes, *, request_id: bytes, to: str) -> RawAnswer:
        """Send a request as it is, past everything that would sign or check it."""
        return self.run(self.forward(method, payload, request_id=request_id, to=to))

    def sign_and_send(
        self,
        operation: Operation[Any, Any],
        request: Any,
        *,
        request_id: bytes,
        of: str,
        to: str,
        requester: str = "",
        holder: IdentityHolder | None = None,
    ) -> RawAnswer:
        """Send a request for ``of`` over the link to ``to``, signed by ``holder`` or by us."""
        audience = operation.audience(request)
        message = sign_request(
            holder or self.holder,
            method=operation.method,
            request_id=request_id,
            audience=of if audience is None else audience,
            requester=requester,
            payload=ENCODER.encode(request),
        ).message
        return self.send(operation.method, message, request_id=request_id, to=to)

    async def forward(
        self, method: str, payload: bytes, *, request_id: bytes, to: str
    ) -> RawAnswer:
        """As ``send``, from within a handler."""
        link: Link = self.directory.links(NodeIdentity.parse(to))[0]
        return await link.call(method, payload, request_id=request_id, timeout_seconds=10)

    def ask(
        self,
        operation: Operation[Any, Any],
        request: Any,
        *,
        of: str,
        timeout_seconds: float = 15,
        **options: Any,
    ) -> Any:
        """Send a request as a well-behaved node would; raise what was answered."""
        peers = [NodeIdentity.parse(of)]
        return self.run(
            self.caller.call(
                operation, request, peers=peers, timeout_seconds=timeout_seconds, **options
            )
        )

    async def _handle(self, call: IncomingCall) -> RawAnswer:
        return await self.handler(call)

    def _took(self, link: Link) -> None:
        self._links.append(link)
        self.directory.add(link)

    async def _open(self, address: str) -> None:
        self._listener = await TlsNetwork().listen(
            parse_address(address),
            identity=self.holder,
            on_link=self._took,
            handler=self._handle,
            settings=NetSettings(),
        )

    async def _dial(self, address: str, expected: NodeIdentity) -> Link:
        link = await TlsNetwork().dial(
            parse_address(address),
            identity=self.holder,
            expected=expected,
            handler=self._handle,
            settings=NetSettings(),
        )
        self._took(link)
        return link

    async def _close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        # Every link there ever was: one that the other end has closed may still take its leave.
        for link in self._links:
            link.abort()
        for link in self._links:
            await link.wait_closed()
        # A connection that came to no link, because either end refused it, has its own time to
        # close. The loop's way of waking itself is all that may stay open.
        selector = self._loop._selector  # type: ignore[attr-defined]
        async with asyncio.timeout(_LEAVING_SECONDS):
            while len(selector.get_map()) > 1:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


async def _swallow(call: IncomingCall) -> RawAnswer:
    """Take what comes and say nothing of use."""
    return RawAnswer(Status.DENIED, b"")
