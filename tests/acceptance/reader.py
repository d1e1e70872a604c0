"""A reader of the pages, who types their commands on a controller of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.deployment import ROOT
from tests.support.console_blocks import blocks_of
from tools.test_hosts.commands import succeeds

if TYPE_CHECKING:
    from tests.acceptance.deployment import Deployment

__all__ = [
    "CACHE_PAGE",
    "ISOLATION_PAGE",
    "PAGES",
    "PROXY_PAGE",
    "TENANTS_PAGE",
    "Reader",
    "commands_of",
    "commands_until",
]

# In the order in which they are read.
PAGES = ("docs/howto/three-tiers.md", "docs/howto/ansible-own-hosts.md")
CACHE_PAGE = "docs/howto/status-cache.md"
PROXY_PAGE = "docs/howto/ra-chaining.md"
TENANTS_PAGE = "docs/howto/multi-tenant.md"
ISOLATION_PAGE = "docs/howto/isolate-a-node.md"

_CHECKOUT = (
    ".wheelhouse",
    "LICENSE",
    "ansible.cfg",
    "collections",
    "constraints.txt",
    "node_agent",
    "playbooks",
    "pyproject.toml",
    "tools",
)
_LIMIT_SECONDS = 240
# What the reader thinks of when asked for a vault password, and again to confirm it.
_KEYS = "a password of the reader's\n" * 2


def commands_of(page: str) -> list[str]:
    """Return every command for a reader with hosts on ``page``, relative to the repository."""
    return [
        command.text
        for block in blocks_of(ROOT / page)
        if block.reason == "needs-hosts"
        for command in block.commands
    ]


def commands_until(word: str, page: str) -> list[str]:
    """Return the commands of ``page`` that come before the first with ``word`` in it."""
    commands = commands_of(page)
    return commands[: next(number for number, text in enumerate(commands) if word in text)]


class Reader:
    """Types commands in a checkout, in which the inventories are as they are shipped.

    The hosts are in the reader's SSH configuration already.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._directory = directory = deployment.places.directory / "reader"
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

        if self._vault_password.exists():
            self._environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(self._vault_password)

    @property
    def _vault_password(self) -> Path:
        return self._directory / "vault-password"

    def begin(self) -> None:
        """Have a new checkout, and nothing of an earlier one."""
        self._environment.pop("ANSIBLE_VAULT_PASSWORD_FILE", None)
        if self._directory.exists():
            shutil.rmtree(self._directory)
        self._directory.mkdir(mode=0o700)
        (ROOT / ".wheelhouse").mkdir(exist_ok=True)
        for name in _CHECKOUT:
            (self._directory / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "inventories", self._directory / "inventories")

    def keep_vault_password(self) -> None:
        """From now on have Ansible take the vault password from a file."""
        self._vault_password.touch(mode=0o600)
        self._vault_password.write_text(_KEYS.splitlines()[0], encoding="utf-8")
        self._environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(self._vault_password)

    def hand_over(self, inventory: Path) -> None:
        """Give the inventory that the reader made, with its secrets in clear, to the tests."""
        shutil.rmtree(inventory)
        shutil.copytree(self._directory / "inventories/mine", inventory)
        self.types(f"ansible-vault decrypt {inventory}/*_vars/*/vault.yml")

    def sets(self, variable: str, value: str) -> None:
        """Have a variable of the controller in the reader's inventory from now on."""
        file = self._directory / "inventories/mine/host_vars/localhost/reader.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        # Every JSON document is a YAML document too.
        file.write_text(json.dumps({variable: value}) + "\n", encoding="utf-8")

    def hang_up(self) -> None:
        """End what SSH keeps open for later commands; hosts that are made anew hear none of it."""
        for socket in (self._directory / ".ansible/cp").glob("*"):
            succeeds("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "test-host")
            socket.unlink(missing_ok=True)

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
