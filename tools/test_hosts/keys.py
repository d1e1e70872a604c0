"""SSH keys: one to log in with, and one for each host, so that its public half is known before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

if TYPE_CHECKING:
    from pathlib import Path


def ensure_key(path: Path) -> None:
    """Make an Ed25519 key pair at ``path`` and ``path.pub``, unless it is there."""
    public = path.with_suffix(".pub")
    if public.exists():
        return
    path.unlink(missing_ok=True)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    written = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    public.write_bytes(written + b" test-hosts\n")


def host_key_files(directory: Path) -> tuple[str, str]:
    """Return the private and the public half of the host's key. It outlives the host's disks."""
    path = directory / "host_key"
    ensure_key(path)
    return path.read_text(encoding="ascii"), path.with_suffix(".pub").read_text(encoding="ascii")
