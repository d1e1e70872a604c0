"""The soft crypto token: named private keys, encrypted wherever they are stored.

A token is handed its stored keys and opens none of them until one is used: ten thousand CAs cost
nothing at start. With ``automatic`` activation an opened key stays open; with ``on_demand`` it is
decrypted for each use and dropped again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node_agent.errors import TokenError
from node_agent.pki.keys import LocalKey, generate_key, is_cheap
from node_agent.pki.pkcs8 import KeyEncryption, ScryptCost
from node_agent.pki.signing_tasks import OpenSoftTask
from node_agent.pki.token import CryptoToken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node_agent.errors import NodeAgentError
    from node_agent.pki.token import Activation, TokenAccess
    from node_agent.store.records import KeyRecord

__all__ = ["SoftToken"]


class SoftToken(CryptoToken):
    """Keys under one passphrase. Raises TokenError when the passphrase is empty: it has no default.

    The private part of a stored key is PKCS #8, encrypted.
    """

    def __init__(
        self,
        name: str,
        passphrase: bytes,
        *,
        activation: Activation = "automatic",
        records: Iterable[KeyRecord] = (),
        cost: ScryptCost | None = None,
        node: str = "",
    ) -> None:
        if not passphrase:
            raise TokenError(
                f"crypto token {name!r} has no passphrase; "
                "write one to the file that passphrase_file names, readable by its owner only"
            )
        super().__init__(name, activation=activation, records=records, node=node)
        cost = cost or ScryptCost()
        self._access = _Passphrase(f"{node}/{name}", passphrase, cost)
        self._encryption = KeyEncryption(passphrase, cost=cost)
        self._open: dict[str, LocalKey] = {}

    @property
    def access(self) -> TokenAccess:
        """How workers get at the keys: by the passphrase."""
        return self._access

    def works_here(self, kind: str) -> bool:
        """Tell whether keys of ``kind`` are quick enough for the event loop."""
        return is_cheap(kind)

    def generate(self, label: str, kind: str, *, created_at: int) -> KeyRecord:
        """Make a key and return what has to be stored. Raises Conflict when the label exists.

        RSA takes up to seconds: see ``SigningPool.generate`` for a loop that must not wait.
        """
        self.check_is_free(label)
        self._open_any()
        private_key = generate_key(kind)
        key = LocalKey.of(private_key)
        encrypted = self._encryption.encrypt(private_key)
        record = self.add_made(
            label, kind, private_part=encrypted, public_der=key.spki, created_at=created_at
        )
        if self.activation == "automatic":
            self._open[label] = key
        return record

    def remove(self, label: str) -> None:
        """Forget a key. Raises NotFound."""
        super().remove(label)
        self._open.pop(label, None)

    def open(self, label: str) -> LocalKey:
        """Return the opened key. Raises NotFound; TokenError when it can't be opened."""
        key = self._open.get(label)
        if key is None:
            record = self.record(label)
            key = LocalKey.of(self._encryption.decrypt(record.private_part))
            if key.spki != record.public_der:
                raise TokenError(f"key {label!r} does not belong to its recorded public key")
            if self.activation == "automatic":
                self._open[label] = key
        return key

    def verify(self) -> None:
        """Raise TokenError unless the passphrase opens the stored keys (one of them is tried)."""
        record = self.any_record
        if record is not None:
            self.open(record.label)

    def _open_any(self) -> None:
        """Refuse to mix passphrases in one token: a new key must open with the older ones."""
        if not self._open:
            self.verify()


class _Passphrase:
    """Implements ``TokenAccess``: any worker opens any soft token, and no worker loses one."""

    lane = ""
    title = "the signing workers"
    keeps_workers = True

    def __init__(self, reference: str, passphrase: bytes, cost: ScryptCost) -> None:
        self.reference = reference
        self.opening = asyncio.Lock()
        self._task = OpenSoftTask(reference, passphrase, (cost.n, cost.r, cost.p))

    def open_task(self) -> OpenSoftTask:
        """Return the passphrase for a worker."""
        return self._task

    def check(self, *, has_worker: bool) -> None:
        """Do nothing: the passphrase was verified at start."""

    def opened(self) -> None:
        """Do nothing: a worker that learned the passphrase hasn't tried it yet."""

    def failed(self, error: NodeAgentError) -> None:
        """Do nothing: learning a passphrase doesn't fail."""

    def lost(self, error: NodeAgentError) -> None:
        """Do nothing: there is no session."""
