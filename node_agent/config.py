"""The node's own start-up file: the few things an agent must know before it can open its store.

Everything else is an object (``objects.py``), managed through the admin socket.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

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


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``node.yaml`` as written."""

    name: str
    trust_domain: str
    state_directory: str
    runtime_directory: str
    store_url: str | None = None
    passphrase_file: str | None = None
    passphrase_credential: str | None = None
    listen: ListenConfig = ListenConfig()
    admin_group: str | None = None
    workers: int = 1
    log_level: str = "info"


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``node.yaml`` validated: what the composition root builds from."""

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
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("must be debug, info, warning or error", where=f"{path}: log_level")
    state = Path(config.state_directory)
    return NodeSettings(
        identity=NodeIdentity(config.trust_domain, config.name),
        state_directory=state,
        runtime_directory=Path(config.runtime_directory),
        store_url=config.store_url or f"sqlite:///{state / 'store.sqlite3'}",
        passphrase_path=_passphrase_path(config, path),
        peer_address=_listen_address(config.listen.peer, f"{path}: listen.peer"),
        rest_address=_listen_address(config.listen.rest, f"{path}: listen.rest"),
        status_address=_listen_address(config.listen.status, f"{path}: listen.status"),
        admin_group=config.admin_group,
        workers=config.workers,
        log_level=config.log_level,
    )


def _listen_address(text: str | None, where: str) -> Address | None:
    return None if text is None else parse_address(text, where=where)


def _passphrase_path(config: NodeConfig, path: Path) -> Path | None:
    if config.passphrase_credential is None:
        return Path(config.passphrase_file) if config.passphrase_file else None
    if config.passphrase_file is not None:
        raise ConfigError(
            "passphrase_file and passphrase_credential exclude each other",
            where=f"{path}: passphrase_credential",
            remedy="keep one of them",
        )
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise ConfigError(
            "names a systemd credential, but the service manager passed none",
            where=f"{path}: passphrase_credential",
            remedy="add LoadCredentialEncrypted= to the unit, or use passphrase_file",
        )
    return Path(directory) / config.passphrase_credential
