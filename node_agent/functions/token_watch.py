"""PKCS #11 tokens, opened ahead of their first use and again after they were away.

Otherwise a CA that signs once a day would learn at that moment that its token is gone. A token
whose PIN was refused is left alone: only an order tries it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from node_agent.errors import NodeAgentError
from node_agent.functions.signal import ChangeSignal
from node_agent.objects import CryptoTokenSpec
from node_agent.web.backends import CryptoTokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.functions.node_objects import NodeObjects
    from node_agent.functions.tokens import Tokens
    from node_agent.pki.signing import SigningPool

__all__ = ["TokenWatch"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 30.0


class TokenWatch:
    """Run with ``run()``; ``statuses`` says how each token is."""

    def __init__(self, *, objects: NodeObjects, tokens: Tokens, pool: SigningPool) -> None:
        self._objects = objects
        self._tokens = tokens
        self._pool = pool
        self._wake = ChangeSignal()

    async def run(self) -> None:
        """Keep tokens open until cancelled."""
        while True:
            seen = self._wake.count
            for spec in list(self._specs()):
                access = self._tokens.access(spec.name)
                # An offline CA's token is opened for its operations only.
                if access is None or spec.activation == "on_demand":
                    continue
                if access.state in ("unused", "failed"):
                    await self._try(spec.name)
            await self._wake.wait(seen, _LOOK_SECONDS)

    def wake(self) -> None:
        """Look now: tokens have changed."""
        self._wake.announce()

    async def open(self, name: str) -> CryptoTokenStatus:
        """Open a token now, also after its PIN was refused: it is right again, says who asks.

        Raises NotFound, TokenError, Unavailable.
        """
        access = self._tokens.access(name)
        if access is not None and access.state != "open":
            access.order()
            await self._pool.open(access)
        return next(status for status in self.statuses() if status.name == name)

    def statuses(self) -> Iterator[CryptoTokenStatus]:
        """Yield how each token is."""
        for spec in self._specs():
            access = self._tokens.access(spec.name)
            yield CryptoTokenStatus(
                name=spec.name,
                kind=spec.kind,
                # A soft token that its passphrase doesn't open ends the agent at start.
                state="open" if access is None else access.state,
                keys=len(self._tokens.labels(spec.name)),
                last_error=None if access is None else access.last_error,
            )

    async def _try(self, name: str) -> None:
        access = self._tokens.access(name)
        assert access is not None
        try:
            await self._pool.open(access)
        except NodeAgentError as error:
            log.warning("crypto token can't be opened", crypto_token=name, reason=str(error))
        else:
            log.info("crypto token open", crypto_token=name)

    def _specs(self) -> Iterator[CryptoTokenSpec]:
        return self._objects.specs("crypto_tokens", CryptoTokenSpec)
