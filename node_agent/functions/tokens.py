"""The node's crypto tokens: passphrases, read once, PINs, read when used, and every key that this
node may open.

A key belongs to whom its object belongs. Keys of authenticators and signers are the node's own and
open with its passphrase only. Keys of CAs belong to all nodes of the store and open with the shared
passphrase, where there is one. So each token has two parts, which never mix.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from node_agent.errors import NotFound, TokenError
from node_agent.pki.pkcs11_token import Pkcs11Access, Pkcs11Token
from node_agent.pki.soft_token import SoftToken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node_agent.objects import CryptoTokenSpec
    from node_agent.pki.token import CryptoToken, TokenAccess
    from node_agent.store.records import KeyRecord

__all__ = ["Tokens", "read_passphrase", "read_pin", "read_secret"]

_REMEDY = "name a file with passphrase_file (mode 0600) or a credential with passphrase_credential"
# NIST SP 800-63B section 5.1.1 asks for 8 characters of a memorized secret; this one protects keys
# against whoever copies the store, so it gets twice that.
_MIN_PASSPHRASE_BYTES = 16

_Part = tuple[str, str]
"""Node (empty: shared) and token."""


def read_secret(path: Path, *, what: str = "passphrase") -> bytes:
    """Return the secret in ``path`` without its final newline.

    Raises TokenError when it can't be read or when others may read it.
    """
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise TokenError(f"the {what} file {path} can't be read: {error.strerror}") from error
    # systemd lets the service's user in by an access list, whose mask shows as the group's mode.
    passed_on = str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
    if stat.S_IMODE(mode) & (0o007 if passed_on else 0o077):
        raise TokenError(f"the {what} file {path} is open to others; run chmod 600 {path}")
    return secret


def read_passphrase(path: Path | None) -> bytes:
    """Return the passphrase in ``path`` without its final newline.

    Raises TokenError when there is none, when others may read it, or when it is too short.
    """
    if path is None:
        raise TokenError(f"no passphrase is configured for the crypto tokens; {_REMEDY}")
    passphrase = read_secret(path)
    if len(passphrase) < _MIN_PASSPHRASE_BYTES:
        raise TokenError(
            f"the passphrase in {path} has fewer than {_MIN_PASSPHRASE_BYTES} characters; "
            f"make one with: openssl rand -base64 32"
        )
    return passphrase


def read_pin(spec: CryptoTokenSpec) -> str:
    """Return a token's PIN. Raises TokenError naming the token when it can't be read."""
    try:
        return read_secret(_pin_path(spec), what="PIN").decode()
    except TokenError as error:
        raise TokenError(f"crypto token {spec.name!r}: {error}") from error
    except UnicodeDecodeError:
        # No cause attached: its text would quote the PIN.
        raise TokenError(f"crypto token {spec.name!r}: its PIN is not UTF-8 text") from None


def _pin_path(spec: CryptoTokenSpec) -> Path:
    if spec.pin_credential is None:
        return Path(spec.pin_file or "")
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise TokenError(
            f"the service manager passed no credential {spec.pin_credential}; "
            "add LoadCredentialEncrypted= to the unit, or use pin_file"
        )
    return Path(directory) / spec.pin_credential


class Tokens:
    """Every crypto token of the node by name. ``node`` is whose own keys there are beside the
    shared ones, which open with ``shared_passphrase``, or with ``passphrase`` if there is none.
    ``modules`` are the PKCS #11 modules that may be loaded.
    """

    def __init__(
        self,
        passphrase: bytes,
        records: Iterable[KeyRecord],
        *,
        node: str = "",
        shared_passphrase: bytes | None = None,
        modules: Iterable[str] = (),
    ) -> None:
        self._node = node
        self._has_shared = shared_passphrase is not None
        self._passphrases = {node: passphrase, "": shared_passphrase or passphrase}
        self._records: dict[_Part, dict[str, KeyRecord]] = {}
        for record in records:
            self._records.setdefault((record.node, record.token), {})[record.label] = record
        self._modules = frozenset(modules)
        self._tokens: dict[_Part, CryptoToken] = {}
        self._specs: dict[str, CryptoTokenSpec] = {}
        self._staged: dict[str, CryptoTokenSpec] = {}
        self._accesses: dict[CryptoTokenSpec, Pkcs11Access] = {}
        self._unverified: list[CryptoToken] = []

    def configure(self, specs: Iterable[CryptoTokenSpec]) -> None:
        """Open what is specified and forget what isn't.

        Raises TokenError when the passphrase doesn't open a token's keys.
        """
        named, known = {spec.name: spec for spec in specs}, {**self._specs, **self._staged}
        wanted = {(node, name): spec for name, spec in named.items() for node in self._passphrases}
        for part in set(self._tokens) - set(wanted):
            del self._tokens[part]
        for part, spec in wanted.items():
            have = self._tokens.get(part)
            if have is None:
                self._tokens[part] = self._load(part, spec)
            elif known[spec.name] != spec:
                self._records[part] = {label: have.record(label) for label in have.labels}
                self._tokens[part] = self._load(part, spec)
        self._specs, self._staged = named, {}
        self._drop_unused()

    def own(self, name: str) -> CryptoToken:
        """Return the part of a token that holds this node's own keys. Raises NotFound."""
        return self._part(self._node, name)

    def shared(self, name: str) -> CryptoToken:
        """Return the part of a token that the nodes of a store have in common. Raises NotFound."""
        return self._part("", name)

    def holder(self, record: KeyRecord) -> CryptoToken:
        """Return the part of a token that a key is in. Raises NotFound."""
        return self._part(record.node, record.token)

    def labels(self, name: str) -> list[str]:
        """Return the labels of all keys of a token. Raises NotFound."""
        return sorted({*self.own(name).labels, *self.shared(name).labels})

    def stage(self, spec: CryptoTokenSpec) -> TokenAccess | None:
        """Make a token available to the rest of a plan that creates it. Return what has to open it
        before the plan can be good: None where nothing has to.
        """
        if spec.name not in self._specs:
            self._staged[spec.name] = spec
            for node in self._passphrases:
                self._tokens[(node, spec.name)] = self._load((node, spec.name), spec)
        return self._access(spec) if spec.kind == "pkcs11" else None

    def access(self, name: str) -> Pkcs11Access | None:
        """Return what opens the PKCS #11 token ``name``, None for a soft one. Raises NotFound."""
        self._part("", name)
        return self._accesses.get(self._specs[name])

    def accesses(self) -> list[TokenAccess]:
        """Return how workers get at every token in force."""
        return [token.access for token in self._tokens.values()]

    def unstage(self) -> None:
        """Forget the tokens of a plan that failed."""
        for name in self._staged:
            for node in self._passphrases:
                self._tokens.pop((node, name), None)
        self._staged = {}
        self._drop_unused()

    def learn(self, records: Iterable[KeyRecord]) -> None:
        """Take in what other nodes have stored; ``verify_new`` is to follow."""
        for record in records:
            part = (record.node, record.token)
            self._records.setdefault(part, {})[record.label] = record
            token = self._tokens.get(part)
            if token is not None and not token.has(record.label):
                is_first = token.any_record is None
                token.add(record)
                if is_first:
                    self._unverified.append(token)

    def verify_new(self) -> None:
        """Raise TokenError unless the passphrases open the tokens that got their first keys."""
        while self._unverified:
            self._verify(self._unverified[-1])
            self._unverified.pop()

    def verify(self) -> None:
        """Raise TokenError unless the passphrases open every token that has keys."""
        for token in self._tokens.values():
            self._verify(token)

    def _verify(self, token: CryptoToken) -> None:
        try:
            token.verify()
        except TokenError as error:
            raise TokenError(f"{self._reason(token)} ({error})") from error

    def _reason(self, token: CryptoToken) -> str:
        if token.node:
            return (
                f"this node's passphrase opens none of its keys in token {token.name!r}; "
                "it differs from the one that they were made under"
            )
        if self._has_shared:
            return (
                f"this node's shared passphrase opens none of the keys of token {token.name!r}; "
                "it differs from the one that they were made under"
            )
        return (
            f"this node's passphrase opens none of the keys of token {token.name!r}; if nodes "
            "share this store, give each the same shared_passphrase_file or _credential"
        )

    def _part(self, node: str, name: str) -> CryptoToken:
        token = self._tokens.get((node, name))
        if token is None:
            raise NotFound(f"there is no crypto token {name!r}")
        return token

    def _load(self, part: _Part, spec: CryptoTokenSpec) -> CryptoToken:
        node, _ = part
        if spec.kind == "pkcs11":
            return Pkcs11Token(
                spec.name,
                self._access(spec),
                activation=spec.activation,
                records=self._records.get(part, {}).values(),
                node=node,
            )
        return SoftToken(
            spec.name,
            self._passphrases[node],
            activation=spec.activation,
            records=self._records.get(part, {}).values(),
            node=node,
        )

    def _drop_unused(self) -> None:
        wanted = set(self._specs.values())
        self._accesses = {spec: one for spec, one in self._accesses.items() if spec in wanted}

    def _access(self, spec: CryptoTokenSpec) -> Pkcs11Access:
        """Return the one access of a specification: the PIN of both parts of a token is one."""
        access = self._accesses.get(spec)
        if access is None:
            access = self._accesses[spec] = Pkcs11Access(
                spec.name,
                module=spec.module or "",
                label=spec.token_label,
                serial=spec.token_serial,
                slot=spec.slot,
                keeps_workers=spec.activation == "automatic",
                read_pin=lambda: self._allowed_pin(spec),
            )
        return access

    def _allowed_pin(self, spec: CryptoTokenSpec) -> str:
        if spec.module not in self._modules:
            raise TokenError(
                f"crypto token {spec.name!r}: the module {spec.module} isn't among pkcs11_modules "
                "of node.yaml; add it there and restart the agent, if it may run here"
            )
        return read_pin(spec)
