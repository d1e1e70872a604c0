"""The node's crypto tokens: one passphrase, read once, and every key that the store holds."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from node_agent.errors import NotFound, TokenError
from node_agent.pki.token import SoftToken, TokenKey

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from node_agent.objects import CryptoTokenSpec
    from node_agent.store.records import KeyRecord

__all__ = ["Tokens", "read_passphrase"]

_REMEDY = "name a file with passphrase_file (mode 0600) or a credential with passphrase_credential"
# NIST SP 800-63B section 5.1.1 asks for 8 characters of a memorized secret; this one protects keys
# against whoever copies the store, so it gets twice that.
_MIN_PASSPHRASE_BYTES = 16


def read_passphrase(path: Path | None) -> bytes:
    """Return the passphrase in ``path`` without its final newline.

    Raises TokenError when there is none, when others may read it, or when it is too short.
    """
    if path is None:
        raise TokenError(f"no passphrase is configured for the crypto tokens; {_REMEDY}")
    try:
        mode = path.stat().st_mode
        passphrase = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise TokenError(f"the passphrase file {path} can't be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise TokenError(f"the passphrase file {path} is open to others; run chmod 600 {path}")
    if len(passphrase) < _MIN_PASSPHRASE_BYTES:
        raise TokenError(
            f"the passphrase in {path} has fewer than {_MIN_PASSPHRASE_BYTES} characters; "
            f"make one with: openssl rand -base64 32"
        )
    return passphrase


class Tokens:
    """Every crypto token of the node by name."""

    def __init__(self, passphrase: bytes, records: Iterable[KeyRecord]) -> None:
        self._passphrase = passphrase
        self._records: dict[str, list[KeyRecord]] = {}
        for record in records:
            self._records.setdefault(record.token, []).append(record)
        self._tokens: dict[str, SoftToken] = {}

    def configure(self, specs: Iterable[CryptoTokenSpec]) -> None:
        """Open what is specified and forget what isn't.

        Raises TokenError when the passphrase doesn't open a token's keys.
        """
        wanted = {spec.name: spec for spec in specs}
        for name in set(self._tokens) - set(wanted):
            del self._tokens[name]
        for name, spec in wanted.items():
            have = self._tokens.get(name)
            if have is None:
                self._tokens[name] = self._load(spec)
            elif have.activation != spec.activation:
                self._records[name] = [have.record(label) for label in have.labels]
                self._tokens[name] = self._load(spec)

    def get(self, name: str) -> SoftToken:
        """Return one token. Raises NotFound."""
        token = self._tokens.get(name)
        if token is None:
            raise NotFound(f"there is no crypto token {name!r}")
        return token

    def key(self, token: str, label: str) -> TokenKey:
        """Return a key, still closed. Raises NotFound."""
        return self.get(token).key(label)

    def stage(self, spec: CryptoTokenSpec) -> None:
        """Make a token available to the rest of a plan that creates it."""
        self._tokens.setdefault(spec.name, self._load(spec))

    def verify(self) -> None:
        """Raise TokenError unless the passphrase opens every token that has keys."""
        for token in self._tokens.values():
            token.verify_passphrase()

    def _load(self, spec: CryptoTokenSpec) -> SoftToken:
        return SoftToken(
            spec.name,
            self._passphrase,
            activation=spec.activation,
            records=self._records.get(spec.name, ()),
        )
