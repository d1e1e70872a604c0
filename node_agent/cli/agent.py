"""``peersys run`` and ``check-config``: the commands that are the agent instead of asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus
from node_agent.config import load_settings
from node_agent.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from node_agent.cli.session import Session

__all__ = ["check_config", "run"]


def run(namespace: argparse.Namespace, session: Session) -> int:
    """Run the agent until it is told to stop."""
    settings = load_settings(namespace.config)
    # The agent's libraries take far longer to import than a client command takes altogether.
    from node_agent.service import run as run_node

    return run_node(settings)


def check_config(namespace: argparse.Namespace, session: Session) -> int:
    """Read the start-up file as ``run`` would, and check what it points to."""
    settings = load_settings(namespace.config)
    for name in ("passphrase", "store_password", "shared_passphrase"):
        path = getattr(settings, f"{name}_path")
        if path is not None:
            _check_secret(path, where=f"{namespace.config}: {name}_file")
    document = {
        "identity": settings.identity.uri,
        "state_directory": str(settings.state_directory),
        "admin_socket": str(settings.admin_socket),
        "listen": {
            "peer": _text(settings.peer_address),
            "rest": _text(settings.rest_address),
            "status": _text(settings.status_address),
        },
    }
    session.show(document, lambda: f"{namespace.config}: good, node {settings.identity}")
    return ExitStatus.OK


def _check_secret(path: Path, *, where: str) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}",
            where=where,
            remedy="make the file, or correct its path",
        ) from error
    if found.st_mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {found.st_mode & 0o777:04o})",
            where=where,
            remedy=f"chmod 0600 {path}",
        )
    if found.st_size == 0:
        raise ConfigError(f"{path} is empty", where=where, remedy="write the secret into it")


def _text(address: object) -> str | None:
    return None if address is None else str(address)
