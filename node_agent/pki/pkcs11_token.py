"""A PKCS #11 token as the agent sees it: which keys it has, and whether it can be used.

The module itself is never loaded here but in signing workers, each with a session of its own:
sessions don't survive a fork, and a module that crashes or hangs must not take the agent along.
What one worker finds out about the token comes back here, so that all of them stop at once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from node_agent.errors import TokenClosed, TokenError
from node_agent.pki.signing_tasks import OpenPkcs11Task
from node_agent.pki.token import CryptoToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from node_agent.errors import NodeAgentError
    from node_agent.pki.keys import LocalKey
    from node_agent.pki.token import Activation, TokenAccess, TokenState
    from node_agent.store.records import KeyRecord

__all__ = ["Pkcs11Access", "Pkcs11Token"]

# A token that couldn't be opened is tried again after so long, however many requests need it.
_RETRY_SECONDS = 2.0
# A token that was given another module or PIN is another one to workers.
_editions = itertools.count(1)


class Pkcs11Access:
    """Implements ``TokenAccess``: which token of which module, and whether it may be tried.

    ``read_pin`` is called each time a worker logs in, and the PIN kept nowhere. After a PIN was
    refused, nobody tries it until ``order`` says so.
    """

    def __init__(
        self,
        name: str,
        *,
        module: str,
        label: str | None,
        serial: str | None,
        slot: int | None,
        keeps_workers: bool,
        read_pin: Callable[[], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.title = f"crypto token {name!r}"
        self.keeps_workers = keeps_workers
        self.reference = self.lane = f"pkcs11/{name}/{next(_editions)}"
        self.opening = asyncio.Lock()
        self.state: TokenState = "unused"
        self.last_error: str | None = None
        self._where = (module, label, serial, slot)
        self._read_pin = read_pin
        self._monotonic = monotonic
        self._not_before = float("-inf")
        self._is_ordered = False

    def check(self, *, has_worker: bool) -> None:
        """Raise TokenClosed after a refused PIN; TokenError so soon after a failure that opening
        the token isn't worth a try. ``has_worker``: one has it open.
        """
        if self.state == "closed":
            raise TokenClosed(self.last_error or "")
        if not has_worker and self._monotonic() < self._not_before:
            raise TokenError(self.last_error or "")

    def open_task(self) -> OpenPkcs11Task:
        """Return what a worker logs in with. Raises TokenError when the PIN can't be read, too."""
        self.check(has_worker=False)
        module, label, serial, slot = self._where
        try:
            pin = self._read_pin()
        except TokenError as error:
            self.failed(error)
            raise
        is_ordered, self._is_ordered = self._is_ordered, False
        return OpenPkcs11Task(
            token=self.reference,
            token_name=self.name,
            module=module,
            label=label,
            serial=serial,
            slot=slot,
            pin=pin,
            is_ordered=is_ordered,
        )

    def order(self) -> None:
        """Let the token be tried again, for somebody says so who knows the PIN to be right now."""
        self.state = "unused"
        self._not_before = float("-inf")
        self._is_ordered = True

    def opened(self) -> None:
        """Note that a worker has logged in."""
        self.state, self.last_error = "open", None
        self._is_ordered = False

    def failed(self, error: NodeAgentError) -> None:
        """Note that a worker couldn't log in."""
        self.state = "closed" if isinstance(error, TokenClosed) else "failed"
        self.last_error = str(error)
        self._not_before = self._monotonic() + _RETRY_SECONDS

    def lost(self, error: NodeAgentError) -> None:
        """Note that a session is gone. Another one may be opened at once."""
        if self.state != "closed":
            self.state, self.last_error = "failed", str(error)

    def __repr__(self) -> str:
        return f"Pkcs11Access({self.name!r}, {self.state})"


class Pkcs11Token(CryptoToken):
    """Keys in a PKCS #11 token, which makes them and never gives them out.

    The private part of a stored key is its CKA_ID. A token's own and shared keys have one
    ``access``: the PIN is one, and so are its wrong tries.
    """

    def __init__(
        self,
        name: str,
        access: Pkcs11Access,
        *,
        activation: Activation,
        records: Iterable[KeyRecord],
        node: str,
    ) -> None:
        super().__init__(name, activation=activation, records=records, node=node)
        self._access = access

    @property
    def access(self) -> TokenAccess:
        """How workers get at the keys: through the module."""
        return self._access

    def works_here(self, kind: str) -> bool:
        """Tell that no key is used in this process."""
        return False

    def open(self, label: str) -> LocalKey:
        """Refuse. Raises TokenError: the key can't leave the token."""
        self.record(label)
        raise TokenError(
            f"key {label!r} can't leave crypto token {self.name!r}, but is needed in memory here; "
            "keep such keys in a soft token"
        )

    def generate(self, label: str, kind: str, *, created_at: int) -> KeyRecord:
        """Refuse. Raises TokenError: keys are made by workers."""
        raise TokenError(f"crypto token {self.name!r} makes no keys in this process")

    def verify(self) -> None:
        """Do nothing. A PIN is never tried for the sake of trying."""
