"""Where a lab keeps its things: one directory, one cache, two network namespaces."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/var/lib/peersys-test-hosts")
CACHE = Path("/var/cache/peersys-test-hosts")
# A marker in the environment of each process of a host: it is how an interrupted start is found.
MARKER = "PEERSYS_TEST_HOST"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths and names of one lab. Two labs with different directories don't meet."""

    directory: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> Places:
        """Read PEERSYS_TEST_HOSTS_DIRECTORY and PEERSYS_TEST_HOSTS_CACHE."""
        directory = os.environ.get("PEERSYS_TEST_HOSTS_DIRECTORY") or DIRECTORY
        cache = os.environ.get("PEERSYS_TEST_HOSTS_CACHE") or CACHE
        return cls(Path(directory).absolute(), Path(cache).absolute())

    @property
    def description(self) -> Path:
        """The lab as it was made, so that every later command knows it without an inventory."""
        return self.directory / "lab.json"

    @property
    def inventory(self) -> Path:
        """The second inventory: how to log in."""
        return self.directory / "inventory"

    @property
    def ssh_configuration(self) -> Path:
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def login_key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def sudo_password(self) -> Path:
        """Exists only in a lab whose login user has to give a password to sudo."""
        return self.directory / "sudo_password"

    def tree(self, release: str) -> Path:
        """Return the link to the base tree that hosts of ``release`` share."""
        return self.directory / "trees" / release

    @property
    def control_sockets(self) -> Path:
        """Where SSH keeps connections open between two tasks."""
        return self.directory / "cp"

    @property
    def hosts(self) -> Path:
        return self.directory / "hosts"

    def host(self, name: str) -> Path:
        """Return the directory of one host."""
        return self.hosts / name

    def console(self, name: str) -> Path:
        """Return what one host has printed since it was made."""
        return self.host(name) / "console.log"

    @property
    def controller_namespace(self) -> str:
        """The network namespace that holds the zones' bridges and the controller's addresses."""
        if self.directory == DIRECTORY:
            return "peersys-hosts"
        return f"peersys-hosts-{hashlib.sha256(bytes(self.directory)).hexdigest()[:8]}"

    @property
    def router_namespace(self) -> str:
        return f"{self.controller_namespace}-router"

    @property
    def into_controller_namespace(self) -> tuple[str, ...]:
        """The words before a command that let it run with the controller's network."""
        return ("nsenter", f"--net=/run/netns/{self.controller_namespace}", "--")
