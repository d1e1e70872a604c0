"""``peersys token``: API tokens, made here and kept by nobody but their owner."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from node_agent.cli.session import Session

__all__ = ["new"]

_TOKEN_BYTES = 32
"""256 random bits: a plain hash of such a token can't be searched, so the RA needs no slow one."""


def new(namespace: argparse.Namespace, session: Session) -> int:
    """Make a token; print it once, or write it to a file that only its owner reads."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    document = {"token_sha256": hashlib.sha256(token.encode()).hexdigest()}
    if namespace.output is None:
        document["token"] = token
    else:
        _write_secret(namespace.output, token)
        document["file"] = str(namespace.output)
    session.show(document, lambda: "\n".join(f"{key}: {value}" for key, value in document.items()))
    return ExitStatus.OK


def _write_secret(path: Path, secret: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"{path} can't be made: {error.strerror}",
            remedy="name a file that doesn't exist yet: a token is never written over another",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
