"""Handshakes that failed, in the audit log: whoever knocks, and whoever answers, without being it.

Anybody who reaches the port can bring this about, as often as they like and from many addresses. So
a source is written at its first failure and from then on once a minute, with how often it failed;
and of the sources of one minute only the first few by themselves, all others as one. However many
knock, a minute writes 41 entries at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import HandshakeError, NodeAgentError
from node_agent.peers.case import AuditTrail
from node_agent.store.records import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node_agent.clock import Clock
    from node_agent.config import Address
    from node_agent.identity import NodeIdentity
    from node_agent.net.backend import Listener, NetSettings, Network
    from node_agent.net.calls import CallHandler
    from node_agent.net.link import Link
    from node_agent.net.tls import IdentityHolder

__all__ = ["AuditedNetwork", "HandshakeLog"]

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 60.0
MOST_SOURCES: Final = 20
_OTHERS: Final = "others"
# Certificates say much of what a stranger makes up.
_MOST_REASON_CHARACTERS: Final = 200
# What one customer is given at least (RFC 6177): addresses below it cost nothing.
_IPV6_PREFIX: Final = 64


@dataclass(slots=True)
class _Source:
    """Failures since the last entry, and what is said of the newest."""

    times: int
    reason: str
    detail: dict[str, str]


class HandshakeLog:
    """Write them with ``audit``; ``close`` writes what isn't written yet."""

    def __init__(self, audit: Callable[[AuditRecord], Awaitable[None]], clock: Clock) -> None:
        self._trail = AuditTrail(audit)
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._minutes: asyncio.Task[None] | None = None

    def refused(self, remote: str, reason: str) -> None:
        """Note that ``remote`` (``host:port``) dialled us and got no link."""
        host = _network_of(remote.rpartition(":")[0])
        self._note(host, reason, {"source": host, "direction": "in"})

    def failed(self, address: Address, expected: NodeIdentity, reason: str) -> None:
        """Note that who answered at ``address`` isn't ``expected``, or doesn't believe us."""
        detail = {"source": str(address), "direction": "out", "peer": expected.uri}
        self._note(f"{expected.name} at {address}", reason, detail)

    async def close(self) -> None:
        """Write what was counted, and wait until all of it is written."""
        if self._minutes is not None:
            self._minutes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._minutes
        self._write_counts()
        await asyncio.gather(*self._writing)

    def _note(self, name: str, reason: str, detail: dict[str, str]) -> None:
        reason = reason[:_MOST_REASON_CHARACTERS]
        if name not in self._sources and len(self._sources) >= MOST_SOURCES:
            name, detail = _OTHERS, {"source": _OTHERS, "direction": detail["direction"]}
        source = self._sources.get(name)
        if source is not None:
            source.times += 1
            source.reason, source.detail = reason, detail
            return
        self._sources[name] = _Source(0, reason, detail)
        self._write_soon(name, reason, detail)
        if self._minutes is None or self._minutes.done():
            self._minutes = asyncio.create_task(self._count_minutes())

    async def _count_minutes(self) -> None:
        """Write each minute what was counted in it, until a minute was quiet."""
        while self._sources:
            await self._clock.sleep(QUIET_SECONDS)
            self._write_counts()

    def _write_counts(self) -> None:
        for name, source in list(self._sources.items()):
            if not source.times:
                del self._sources[name]
                continue
            detail = {**source.detail, "times": str(source.times)}
            self._write_soon(name, source.reason, detail)
            source.times = 0

    def _write_soon(self, name: str, reason: str, detail: dict[str, str]) -> None:
        record = AuditRecord(
            at=self._clock.now(),
            action="peer.handshake",
            allowed=False,
            chain=name,
            resources=("/peer/incoming",) if detail["direction"] == "in" else (),
            reason=reason,
            detail=detail,
        )
        task = asyncio.create_task(self._write(record))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, record: AuditRecord) -> None:
        try:
            await self._trail.add(record)
        except NodeAgentError as error:
            log.error("handshake not audited", chain=record.chain, reason=str(error))


class AuditedNetwork:
    """A ``Network`` whose failed handshakes are noted."""

    def __init__(self, network: Network, handshakes: HandshakeLog) -> None:
        self._network = network
        self._handshakes = handshakes

    async def dial(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        expected: NodeIdentity,
        handler: CallHandler,
        settings: NetSettings,
    ) -> Link:
        """Dial; a handshake that fails is noted and raised."""
        try:
            return await self._network.dial(
                address, identity=identity, expected=expected, handler=handler, settings=settings
            )
        except HandshakeError as error:
            self._handshakes.failed(address, expected, str(error))
            raise

    async def listen(
        self,
        address: Address,
        *,
        identity: IdentityHolder,
        on_link: Callable[[Link], None],
        handler: CallHandler,
        settings: NetSettings,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> Listener:
        """Listen; who is refused is noted, and told to ``on_refused``."""

        def refused(remote: str, reason: str) -> None:
            self._handshakes.refused(remote, reason)
            if on_refused is not None:
                on_refused(remote, reason)

        return await self._network.listen(
            address,
            identity=identity,
            on_link=on_link,
            handler=handler,
            settings=settings,
            on_refused=refused,
        )


def _network_of(host: str) -> str:
    """Return an IPv4 address as it is, and the network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
