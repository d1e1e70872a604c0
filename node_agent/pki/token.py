"""The soft crypto token: named private keys, encrypted wherever they are stored.

A token is handed its stored keys and opens none of them until one is used: ten thousand CAs cost
nothing at start. With ``automatic`` activation an opened key stays open; with ``on_demand`` it is
decrypted for each use and dropped again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from node_agent.errors import Conflict, NotFound, TokenError
from node_agent.pki.keys import LocalKey, PrivateKey, generate_key
from node_agent.pki.pkcs8 import KeyEncryption, ScryptCost
from node_agent.store.records import KeyRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Activation", "SoftToken", "TokenKey"]

Activation = Literal["automatic", "on_demand"]


class SoftToken:
    """Keys under one passphrase. Raises TokenError when the passphrase is empty: it has no default.

    ``records`` are the stored keys of this token (records of other tokens are ignored). ``node``
    is the node whose keys these are, empty for keys that the nodes of a store share.
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
        self.name = name
        self.node = node
        self.activation = activation
        self.passphrase = passphrase
        self.cost = cost or ScryptCost()
        self._encryption = KeyEncryption(passphrase, cost=self.cost)
        self._records = {record.label: record for record in records if self._is_mine(record)}
        self._open: dict[str, LocalKey] = {}

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

    @property
    def reference(self) -> str:
        """What tells this token from every other that the node holds."""
        return f"{self.node}/{self.name}"

    def generate(self, label: str, kind: str, *, created_at: int) -> KeyRecord:
        """Make a key and return what has to be stored. Raises Conflict when the label exists.

        RSA takes up to seconds: see ``SigningPool.generate`` for a loop that must not wait.
        """
        self._check_is_free(label)
        self._open_any()
        private_key = generate_key(kind)
        key = LocalKey.of(private_key)
        record = KeyRecord(
            token=self.name,
            label=label,
            key_kind=kind,
            public_der=key.spki,
            encrypted_private=self._encryption.encrypt(private_key),
            created_at=created_at,
            node=self.node,
        )
        self.add(record)
        if self.activation == "automatic":
            self._open[label] = key
        return record

    def add(self, record: KeyRecord) -> None:
        """Take in a stored key without opening it. Raises Conflict when the label exists."""
        self._check_is_free(record.label)
        self._records[record.label] = record

    def remove(self, label: str) -> None:
        """Forget a key. Raises NotFound."""
        self.record(label)
        self._open.pop(label, None)
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
        """Return the opened private key: TLS must hold it. Raises NotFound, TokenError."""
        return self.open(label).private_key

    def open(self, label: str) -> LocalKey:
        """Return the opened key. Raises NotFound; TokenError when it can't be opened."""
        key = self._open.get(label)
        if key is None:
            record = self.record(label)
            key = LocalKey.of(self._encryption.decrypt(record.encrypted_private))
            if key.spki != record.public_der:
                raise TokenError(f"key {label!r} does not belong to its recorded public key")
            if self.activation == "automatic":
                self._open[label] = key
        return key

    def verify_passphrase(self) -> None:
        """Raise TokenError unless the passphrase opens the stored keys (one of them is tried)."""
        record = self.any_record
        if record is not None:
            self.open(record.label)

    def _open_any(self) -> None:
        """Refuse to mix passphrases in one token: a new key must open with the older ones."""
        if not self._open:
            self.verify_passphrase()

    def _is_mine(self, record: KeyRecord) -> bool:
        return record.token == self.name and record.node == self.node

    def _check_is_free(self, label: str) -> None:
        if label in self._records:
            raise Conflict(f"crypto token {self.name!r} already has a key {label!r}")

    def __repr__(self) -> str:
        return f"SoftToken({self.name!r}, {self.activation}, keys={len(self._records)})"


class TokenKey:
    """One key of a token, opened when it signs."""

    __slots__ = ("_record", "_token")

    def __init__(self, token: SoftToken, record: KeyRecord) -> None:
        self._token = token
        self._record = record

    @property
    def token(self) -> SoftToken:
        """The token that holds the key."""
        return self._token

    @property
    def label(self) -> str:
        """The key's name in its token."""
        return self._record.label

    @property
    def kind(self) -> str:
        """The key kind."""
        return self._record.key_kind

    @property
    def spki(self) -> bytes:
        """The public key as SubjectPublicKeyInfo DER."""
        return self._record.public_der

    @property
    def encrypted_private(self) -> bytes:
        """The private key as stored, encrypted."""
        return self._record.encrypted_private

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``. Raises TokenError, NotFound when the key is gone."""
        return self._token.open(self.label).sign(data)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature of the message with this digest (see ``keys.start_digest``)."""
        return self._token.open(self.label).sign_digest(digest)

    def __repr__(self) -> str:
        return f"TokenKey({self._token.name}/{self.label}, {self.kind})"
