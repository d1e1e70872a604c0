"""The node's own start-up file: the few things an agent must know before it can open its store.

Everything else is an object (``objects.py``), managed through the admin socket.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import yaml

from node_agent.errors import ConfigError
from node_agent.identity import NodeIdentity

__all__ = [
    "Address",
    "ListenConfig",
    "NodeConfig",
    "NodeSettings",
    "load_settings",
    "parse_address",
]

_MEBIBYTE = 1024 * 1024
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>\d{1,5})\Z")


class Address(msgspec.Struct, frozen=True):
    """A host (name or literal) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, where: str = "") -> Address:
    """Return ``host:port`` or ``[v6]:port`` as an Address. Raises ConfigError naming ``where``."""
    match = _ADDRESS.match(text)
    if match is None or not 0 <= int(match["port"]) <= 65535:
        raise ConfigError(
            f"{text!r} is not an address", where=where, remedy="write host:port or [ipv6]:port"
        )
    return Address(match["v6"] or match["host"], int(match["port"]))


class ListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where this node listens; an absent port is a closed port. A CA normally has none at all."""

    peer: str | None = None
    rest: str | None = None
    status: str | None = None
    metrics: str | None = None


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``node.yaml`` as written."""

    name: str
    trust_domain: str
    state_directory: str
    runtime_directory: str
    store_url: str | None = None
    passphrase_file: str | None = None
    passphrase_credential: str | None = None
    store_password_file: str | None = None
    store_password_credential: str | None = None
    store_trust_anchors: str | None = None
    shared_passphrase_file: str | None = None
    shared_passphrase_credential: str | None = None
    listen: ListenConfig = ListenConfig()
    admin_group: str | None = None
    workers: int = 1
    status_cache_mebibytes: int = 256
    log_level: str = "info"
    audit_journal: bool = False
    pkcs11_modules: tuple[str, ...] = ()


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``node.yaml`` validated: what the composition root builds from.

    ``pkcs11_modules`` are the shared libraries that a crypto token may name: whoever writes objects
    must not choose what code runs here. ``passphrase_path`` protects the node's own keys,
    ``shared_passphrase_path`` those that the nodes of a store have in common.
    """

    identity: NodeIdentity
    state_directory: Path
    runtime_directory: Path
    store_url: str
    passphrase_path: Path | None
    peer_address: Address | None
    rest_address: Address | None
    status_address: Address | None
    admin_group: str | None
    workers: int
    log_level: str
    status_cache_octets: int = 256 * _MEBIBYTE
    store_password_path: Path | None = None
    shared_passphrase_path: Path | None = None
    metrics_address: Address | None = None
    audit_journal: bool = False
    pkcs11_modules: tuple[str, ...] = ()

    @property
    def admin_socket(self) -> Path:
        """The Unix socket of the admin API."""
        return self.runtime_directory / "admin.sock"


def load_settings(path: Path) -> NodeSettings:
    """Read and validate ``path``. Raises ConfigError naming file and key."""
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"is not text in UTF-8: octet {error.start} can't be read", where=str(path)
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {error}", where=str(path)) from error
    try:
        config = msgspec.convert(raw, NodeConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), where=str(path)) from error
    return _validate(config, path)


def _validate(config: NodeConfig, path: Path) -> NodeSettings:
    if config.workers < 1 or config.workers > 64:
        raise ConfigError("must be from 1 to 64", where=f"{path}: workers")
    if config.status_cache_mebibytes < 1:
        raise ConfigError("must be at least 1", where=f"{path}: status_cache_mebibytes")
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("must be debug, info, warning or error", where=f"{path}: log_level")
    if not all(Path(module).is_absolute() for module in config.pkcs11_modules):
        raise ConfigError("must be absolute paths", where=f"{path}: pkcs11_modules")
    state = Path(config.state_directory)
    return NodeSettings(
        identity=_identity(config, path),
        state_directory=state,
        runtime_directory=Path(config.runtime_directory),
        store_url=_store_url(config, path),
        passphrase_path=_secret_path(config, "passphrase", path),
        store_password_path=_secret_path(config, "store_password", path),
        shared_passphrase_path=_secret_path(config, "shared_passphrase", path),
        peer_address=_listen_address(config.listen.peer, f"{path}: listen.peer"),
        rest_address=_listen_address(config.listen.rest, f"{path}: listen.rest"),
        status_address=_listen_address(config.listen.status, f"{path}: listen.status"),
        metrics_address=_listen_address(config.listen.metrics, f"{path}: listen.metrics"),
        admin_group=config.admin_group,
        workers=config.workers,
        log_level=config.log_level,
        status_cache_octets=config.status_cache_mebibytes * _MEBIBYTE,
        audit_journal=config.audit_journal,
        pkcs11_modules=config.pkcs11_modules,
    )


def _identity(config: NodeConfig, path: Path) -> NodeIdentity:
    key = "trust_domain"
    try:
        NodeIdentity(config.trust_domain, "node")
        key = "name"
        return NodeIdentity(config.trust_domain, config.name)
    except ConfigError as error:
        raise ConfigError(str(error), where=f"{path}: {key}") from error


def _listen_address(text: str | None, where: str) -> Address | None:
    return None if text is None else parse_address(text, where=where)


def _store_url(config: NodeConfig, path: Path) -> str:
    url = config.store_url or f"sqlite:///{Path(config.state_directory) / 'store.sqlite3'}"
    if config.store_trust_anchors is None:
        return url
    where = f"{path}: store_trust_anchors"
    if not url.startswith("postgresql"):
        raise ConfigError("is only for a PostgreSQL store", where=where, remedy="leave it out")
    if "sslmode=" in url or "sslrootcert=" in url:
        raise ConfigError("store_url says already how to verify the server", where=where)
    options = {"sslmode": "verify-full", "sslrootcert": config.store_trust_anchors}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}"


def _secret_path(config: NodeConfig, name: str, path: Path) -> Path | None:
    """Return where the secret ``name`` is, given as ``<name>_file`` or ``<name>_credential``."""
    file: str | None = getattr(config, f"{name}_file")
    credential: str | None = getattr(config, f"{name}_credential")
    if credential is None:
        return Path(file) if file else None
    where = f"{path}: {name}_credential"
    if file is not None:
        raise ConfigError(
            f"{name}_file and {name}_credential exclude each other",
            where=where,
            remedy="keep one of them",
        )
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise ConfigError(
            "names a systemd credential, but the service manager passed none",
            where=where,
            remedy=f"add LoadCredentialEncrypted= to the unit, or use {name}_file",
        )
    return Path(directory) / credential
