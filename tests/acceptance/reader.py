"""A reader of the how-to pages, who types their commands on a controller of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.deployment import ROOT
from tests.support.console_blocks import blocks_of

if TYPE_CHECKING:
    from tests.acceptance.deployment import Deployment

__all__ = ["Reader", "commands_of"]

_CHECKOUT = (
    ".wheelhouse",
    "LICENSE",
    "ansible.cfg",
    "collections",
    "node_agent",
    "playbooks",
    "pyproject.toml",
    "tools",
)
_LIMIT_SECONDS = 240
# What the reader thinks of when asked for a vault password, and again to confirm it.
_KEYS = "a password of the reader's\n" * 2


def commands_of(page: str) -> list[str]:
    """Return every command that ``page``, relative to the repository, tells its reader to type."""
    return [command.text for block in blocks_of(ROOT / page) for command in block.commands]


class Reader:
    """Types commands in a checkout below ``directory``, whose ``inventory`` is the one deployed.

    The hosts are in the reader's SSH configuration already.
    """

    def __init__(self, directory: Path, deployment: Deployment) -> None:
        self._directory = directory
        for name in _CHECKOUT:
            (directory / name).symlink_to(ROOT / name)
        inventory = directory / "inventories" / deployment.inventory.name
        shutil.copytree(deployment.inventory, inventory)
        ssh = f"-F {deployment.places.ssh_configuration} -o ControlMaster=auto"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        self._environment = {
            **inherited,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(directory / ".ansible"),
            "ANSIBLE_SSH_ARGS": f"{ssh} -o ControlPersist=60s",
            "EDITOR": "true",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def keep_vault_password(self) -> None:
        """From now on have Ansible take the vault password from a file."""
        path = self._directory / "vault-password"
        path.touch(mode=0o600)
        path.write_text(_KEYS.splitlines()[0], encoding="utf-8")
        self._environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(path)

    def types(self, command: str) -> str:
        """Return what ``command`` printed. Raises AssertionError when it fails."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            env=self._environment,
            input=_KEYS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_SECONDS,
            # Without a terminal passwords are read from standard input.
            start_new_session=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout[-6000:]}"
        return done.stdout
