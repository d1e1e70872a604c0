"""The status worker: a child process that answers at the status port, and nothing else.

Run as ``python -m node_agent.status_workers.program`` with a socket to the agent as its standard
input. It has a ``Reader`` of the store, the public halves of signers, and no key. It ends when its
socket does, and when the agent dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from node_agent.clock import SystemClock
from node_agent.functions.known_authorities import KnownAuthorities, kept_authority
from node_agent.functions.responder import Responder
from node_agent.functions.tokens import read_secret
from node_agent.log import configure_logging
from node_agent.status_workers.agent_keys import AgentSignatures, AgentSigners
from node_agent.status_workers.channel import Channel, open_channel
from node_agent.status_workers.messages import (
    AuthoritiesLearned,
    Authority,
    Begin,
    Confirm,
    CrlDropped,
    Dropped,
    Forgotten,
    FromAgent,
    Listen,
    Listening,
    Pulse,
    Ready,
    Signature,
    SignersChanged,
    Stop,
    decode_from_agent,
)
from node_agent.store import open_reader
from node_agent.web.status_server import StatusServer

if TYPE_CHECKING:
    from node_agent.functions.known_authorities import KnownAuthority
    from node_agent.web.bodies import HealthWord

__all__ = ["StatusWorker", "main"]

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_SILENCE_SECONDS: Final = 10.0
"""An agent that says nothing for so long can't take in what its CAs do: the worker calls itself
failed, so that a load balancer goes elsewhere.
"""


class StatusWorker:
    """One worker: told by messages, answering by a ``Responder`` of its own."""

    def __init__(self, begin: Begin, send: Channel[FromAgent]) -> None:
        password_path = begin.store_password_path
        self._begin = begin
        self._channel = send
        self._clock = SystemClock()
        self._known = KnownAuthorities()
        self._signers = AgentSigners(self._clock)
        self._signatures = AgentSignatures(send.send)
        self._told = Pulse(0, "ok", None)
        self._told_at = self._clock.monotonic()
        self._reader = open_reader(
            begin.store_url,
            password=(
                None
                if password_path is None
                else lambda: read_secret(Path(password_path), what="store password").decode()
            ),
        )
        self._responder = Responder(
            store=self._reader,
            known=self._known,
            signers=self._signers,
            pool=self._signatures,
            clock=self._clock,
            health=self._health,
            lag_seconds=self._lag_seconds,
            cache_octets=begin.cache_octets,
        )
        self._server = StatusServer(
            self._responder, [socket.socket(fileno=number) for number in begin.listeners]
        )

    async def open(self) -> None:
        """Open the store, and say that we are ready. Raises StoreError."""
        await self._reader.start()
        self._channel.send(Ready())

    async def listen(self) -> None:
        """Accept connections."""
        await self._server.start()
        self._channel.send(Listening())

    async def close(self) -> None:
        """Answer what was asked, then close everything."""
        await self._server.close()
        await self._responder.close()
        await self._reader.close()

    def take(self, message: FromAgent) -> None:
        """Do what a message says before anything else is answered."""
        match message:
            case Dropped():
                for serial in message.serials:
                    self._responder.drop(message.authority_id, int.from_bytes(serial, "big"))
            case CrlDropped():
                self._responder.drop_crl(message.authority_id)
            case AuthoritiesLearned():
                for item in message.authorities:
                    self._known.add(_authority_of(item))
                self._responder.reconsider()
            case SignersChanged():
                self._signers.change(message.signers, message.gone)
                for name in (*(view.spec.authority for view in message.signers), *message.gone):
                    self._responder.reconsider(name)
            case Forgotten():
                self._responder.forget()
            case Signature():
                self._signatures.take(message)
            case Pulse():
                self._told, self._told_at = message, self._clock.monotonic()
                self._channel.send(self._confirm(message.number))

    def _confirm(self, number: int) -> Confirm:
        return Confirm(
            number=number,
            answers=self._responder.answers,
            kept_answers=self._responder.kept_answers,
            kept_octets=self._responder.kept_octets,
            connections=len(self._server.connections),
            memory_octets=_memory_octets(),
        )

    def _health(self) -> HealthWord:
        silence = self._clock.monotonic() - self._told_at
        return "failed" if silence > _SILENCE_SECONDS else self._told.health

    def _lag_seconds(self) -> float | None:
        lag = self._told.lag_seconds
        return None if lag is None else lag + self._clock.monotonic() - self._told_at


async def serve(end: socket.socket) -> None:
    """Answer at the status port until the agent says to stop."""
    stopped = asyncio.Event()
    worker: StatusWorker | None = None

    def take(message: FromAgent) -> None:
        nonlocal worker
        if isinstance(message, Begin):
            _configure_logging(message)
            worker = StatusWorker(message, channel)
            tasks.create_task(worker.open())
        elif isinstance(message, Stop):
            stopped.set()
        elif isinstance(message, Listen):
            assert worker is not None
            tasks.create_task(worker.listen())
        else:
            assert worker is not None
            worker.take(message)

    channel = Channel(decode_from_agent, on_message=take, on_lost=lambda: os._exit(1))
    async with asyncio.TaskGroup() as tasks:
        await open_channel(end, channel)
        await stopped.wait()
        if worker is not None:
            await worker.close()


def _configure_logging(begin: Begin) -> None:
    configure_logging(begin.log_level, node=begin.node)
    structlog.contextvars.bind_contextvars(status_worker=begin.number)


def _authority_of(told: Authority) -> KnownAuthority:
    known = kept_authority(told.name, told.chain, told.publisher)
    return replace(known, is_partial=told.is_partial, path=told.path)


def _memory_octets() -> int:
    """Return the resident memory of this process (proc(5), statm)."""
    pages = Path("/proc/self/statm").read_bytes().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _die_with_the_agent() -> None:
    """Have the kernel end us with the agent, also while we are stopped and can't see our socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main() -> None:
    """Serve with the socket that is standard input."""
    # A terminal and a service manager signal the whole group; the agent decides when we end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with_the_agent()
    end = socket.socket(fileno=0)
    end.setblocking(False)
    uvloop.run(serve(end))


if __name__ == "__main__":
    main()
