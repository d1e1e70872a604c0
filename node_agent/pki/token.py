"""Crypto tokens: where named private keys live, whatever holds them.

A token knows which keys it has and how each is recorded. What uses a key, names it by ``TokenKey``
and has ``signing.SigningPool`` sign: whether that happens here, in a worker process or in a device
is the token's affair. Nothing outside this package can tell one kind of token from another.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Literal, Protocol

from node_agent.errors import Conflict, NotFound
from node_agent.store.records import KeyRecord

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from node_agent.errors import NodeAgentError
    from node_agent.pki.keys import LocalKey, PrivateKey
    from node_agent.pki.signing_tasks import OpenTask

__all__ = ["Activation", "CryptoToken", "TokenAccess", "TokenKey", "TokenState"]

Activation = Literal["automatic", "on_demand"]
TokenState = Literal["unused", "open", "failed", "closed"]
"""``failed``: it couldn't be opened, or was lost, and is tried again. ``closed``: its PIN was
refused, and it isn't.
"""


class TokenAccess(Protocol):
    """How a worker process gets at a token."""

    @property
    def reference(self) -> str:
        """What tells this token from every other that the node holds."""
        ...

    @property
    def lane(self) -> str:
        """Which workers serve it: those of no name serve every token that names no others."""
        ...

    @property
    def title(self) -> str:
        """What messages call it."""
        ...

    @property
    def keeps_workers(self) -> bool:
        """Whether a worker may stay open for the next task."""
        ...

    @property
    def opening(self) -> asyncio.Lock:
        """Held while a worker opens the token: two must not try the same secret at once."""
        ...

    def check(self, *, has_worker: bool) -> None:
        """Raise TokenError while the token may not be used. ``has_worker``: one has it open."""
        ...

    def open_task(self) -> OpenTask:
        """Return what a worker is told to open the token. Raises TokenError while it may not."""
        ...

    def opened(self) -> None:
        """Note that a worker has opened the token."""
        ...

    def failed(self, error: NodeAgentError) -> None:
        """Note that a worker couldn't open the token."""
        ...

    def lost(self, error: NodeAgentError) -> None:
        """Note that a worker had the token open, and has lost it."""
        ...


class CryptoToken(abc.ABC):
    """Named keys. ``records`` are stored keys, those of other tokens are ignored. ``node`` is whose
    keys these are, empty for keys that the nodes of a store share.
    """

    def __init__(
        self, name: str, *, activation: Activation, records: Iterable[KeyRecord], node: str
    ) -> None:
        self.name = name
        self.node = node
        self.activation = activation
        self._records = {record.label: record for record in records if self._is_mine(record)}

    @property
    @abc.abstractmethod
    def access(self) -> TokenAccess:
        """How workers get at the keys."""

    @abc.abstractmethod
    def works_here(self, kind: str) -> bool:
        """Tell whether keys of ``kind`` are made and used in this process, which must be quick."""

    @abc.abstractmethod
    def open(self, label: str) -> LocalKey:
        """Return a key opened in this process. Raises NotFound; TokenError when it can't be."""

    @abc.abstractmethod
    def generate(self, label: str, kind: str, *, created_at: int) -> KeyRecord:
        """Make a key in this process and return what has to be stored.

        Raises Conflict when the label exists, TokenError.
        """

    @abc.abstractmethod
    def verify(self) -> None:
        """Raise TokenError when it is certain that the stored keys can't be opened."""

    @property
    def labels(self) -> list[str]:
        """The labels of all keys, sorted."""
        return sorted(self._records)

    def has(self, label: str) -> bool:
        """Tell whether there is a key ``label``."""
        return label in self._records

    @property
    def any_record(self) -> KeyRecord | None:
        """Some key as stored, None of an empty token."""
        return next(iter(self._records.values()), None)

    def add(self, record: KeyRecord) -> None:
        """Take in a stored key without opening it. Raises Conflict when the label exists."""
        self.check_is_free(record.label)
        self._records[record.label] = record

    def add_made(
        self, label: str, kind: str, *, private_part: bytes, public_der: bytes, created_at: int
    ) -> KeyRecord:
        """Take in a key that was just made. Raises Conflict when the label exists."""
        record = KeyRecord(
            token=self.name,
            label=label,
            key_kind=kind,
            public_der=public_der,
            private_part=private_part,
            created_at=created_at,
            node=self.node,
        )
        self.add(record)
        return record

    def remove(self, label: str) -> None:
        """Forget a key. Raises NotFound."""
        self.record(label)
        del self._records[label]

    def record(self, label: str) -> KeyRecord:
        """Return the key as stored. Raises NotFound."""
        record = self._records.get(label)
        if record is None:
            raise NotFound(f"crypto token {self.name!r} has no key {label!r}")
        return record

    def key(self, label: str) -> TokenKey:
        """Return a key to sign with, still closed. Raises NotFound."""
        return TokenKey(self, self.record(label))

    def private_key(self, label: str) -> PrivateKey:
        """Return the opened private key: TLS must hold it. Raises NotFound."""
        return self.open(label).private_key

    def check_is_free(self, label: str) -> None:
        """Raise Conflict when there is a key ``label``."""
        if label in self._records:
            raise Conflict(f"crypto token {self.name!r} already has a key {label!r}")

    def _is_mine(self, record: KeyRecord) -> bool:
        return record.token == self.name and record.node == self.node

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.name!r}, {self.activation}, keys={len(self._records)})"


class TokenKey:
    """One key of a token, opened when it signs."""

    __slots__ = ("record", "token")

    def __init__(self, token: CryptoToken, record: KeyRecord) -> None:
        self.token = token
        self.record = record

    @property
    def label(self) -> str:
        """The key's name in its token."""
        return self.record.label

    @property
    def kind(self) -> str:
        """The key kind."""
        return self.record.key_kind

    @property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo DER."""
        return self.record.public_der

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``, made in this process.

        Raises TokenError, NotFound when the key is gone.
        """
        return self.token.open(self.label).sign(data)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature of the message with this digest (see ``keys.start_digest``)."""
        return self.token.open(self.label).sign_digest(digest)

    def __repr__(self) -> str:
        return f"TokenKey({self.token.name}/{self.label}, {self.kind})"
