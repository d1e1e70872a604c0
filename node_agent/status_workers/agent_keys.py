"""The worker's signers: what goes into an answer is here, the keys are in the agent.

A worker reads what strangers send. What it never had, it can't lose: it asks the agent for each
signature.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from node_agent.errors import TokenError, Unavailable
from node_agent.functions.signers import ActiveSigner
from node_agent.pki.outline import outline
from node_agent.status_workers.messages import Sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.clock import Clock
    from node_agent.pki.keys import SigningKey
    from node_agent.status_workers.messages import Signature, SignerView

__all__ = ["AgentKey", "AgentSignatures", "AgentSigners"]

_SIGN_SECONDS = 5.0


@dataclass(frozen=True)
class AgentKey:
    """The public half of a key that the agent has, as the signer with this certificate uses it."""

    authority: str
    kind: str
    spki: bytes
    certificate: bytes

    @cached_property
    def serial(self) -> bytes:
        """The serial number of the certificate, as a Sign has it."""
        return outline(self.certificate).serial.to_bytes(20, "big")

    def sign(self, data: bytes) -> bytes:
        """Refuse: the private half isn't here."""
        raise TokenError(f"the signer's key for {self.authority} is the agent's")

    sign_digest = sign


class AgentSigners:
    """Implements ``responder.SignerSource``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._active: dict[str, ActiveSigner] = {}

    def active(self, authority: str) -> ActiveSigner | None:
        """Return the signer that answers for the CA ``authority``, None without a valid one."""
        found = self._active.get(authority)
        if found is None or found.outline.not_after <= self._clock.now():
            return None
        return found

    def change(self, views: Iterable[SignerView], gone: Iterable[str] = ()) -> None:
        """Put these signers in force, and those of the CAs ``gone`` out of it."""
        self._active.update({view.spec.authority: _load(view) for view in views})
        for authority in gone:
            self._active.pop(authority, None)


class AgentSignatures:
    """Implements ``responder.SignatureSource``: asks by ``send``, is answered through ``take``.

    What is asked for is a signature of the signer that the answer names, whichever is in force when
    the order leaves. Of one that was replaced or deleted meanwhile the agent says so.
    """

    def __init__(self, send: Callable[[Sign], None]) -> None:
        self._send = send
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    async def sign(self, key: SigningKey, data: bytes) -> bytes:
        """Return the agent's signature. Raises Unavailable, TimeoutError."""
        assert isinstance(key, AgentKey)
        self._number = number = self._number + 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(Sign(number, key.authority, key.serial, data))
            async with asyncio.timeout(_SIGN_SECONDS):
                return await answer
        finally:
            del self._waiting[number]

    def take(self, answer: Signature) -> None:
        """Give a signature to whoever waits for it."""
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting.done():
            return
        if answer.failure:
            waiting.set_exception(Unavailable(answer.failure))
        else:
            waiting.set_result(answer.signature)


def _load(view: SignerView) -> ActiveSigner:
    key = AgentKey(view.spec.authority, view.key_kind, view.spki, view.certificate)
    return ActiveSigner(view.spec, key, view.certificate)
