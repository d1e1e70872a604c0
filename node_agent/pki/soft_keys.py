"""A soft token as a signing worker sees it: the passphrase, and the keys that it has opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.pki.keys import LocalKey, generate_key
from node_agent.pki.pkcs8 import KeyEncryption, ScryptCost

if TYPE_CHECKING:
    from node_agent.pki.signing_tasks import DiscardTask, GenerateTask, OpenSoftTask, SignTask

__all__ = ["SoftKeys"]


class SoftKeys:
    """Implements ``signing_worker.OpenedToken``."""

    def __init__(self, task: OpenSoftTask) -> None:
        self._encryption = KeyEncryption(task.passphrase, cost=ScryptCost(*task.cost))
        self._open: dict[bytes, LocalKey] = {}

    def sign(self, task: SignTask) -> bytes:
        """Return the signature. Raises TokenError when the key doesn't open."""
        key = self._key(task)
        return key.sign_digest(task.data) if task.is_digest else key.sign(task.data)

    def generate(self, task: GenerateTask) -> tuple[bytes, bytes]:
        """Return a new key, encrypted, and its public half. Raises TokenError, ConfigError."""
        if task.sibling:
            self._encryption.decrypt(task.sibling)
        private_key = generate_key(task.kind)
        return self._encryption.encrypt(private_key), LocalKey.of(private_key).spki

    def discard(self, task: DiscardTask) -> None:
        """Do nothing: what isn't stored is gone."""

    def close(self) -> None:
        """Do nothing: the keys end with the process."""

    def _key(self, task: SignTask) -> LocalKey:
        key = self._open.get(task.private_part)
        if key is None:
            key = LocalKey.of(self._encryption.decrypt(task.private_part))
            if task.keep:
                self._open[task.private_part] = key
        return key
