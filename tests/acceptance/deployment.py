"""A deployed inventory, as tests meet it: hosts over SSH, agents on them, RAs over REST."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import testinfra

from tools.test_hosts.inventory_reader import host_variables
from tools.test_hosts.places import Places

if TYPE_CHECKING:
    from testinfra.host import Host

ROOT = Path(__file__).resolve().parent.parent.parent
# The directory of the inventory that was deployed. Unset: nothing was, and these tests are skipped.
VARIABLE = "PEERSYS_ACCEPTANCE_INVENTORY"
AGENT = "/opt/peersys/bin/peersys"
# Molecule has Ansible colour what it prints, which no pattern expects.
PLAIN = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
AUTHORITY = "issuing"
PROFILE = "tls_server"


@dataclass
class Deployment:
    """The inventory that was deployed, and ways to look at what came of it."""

    inventory: Path
    places: Places

    @classmethod
    def from_environment(cls) -> Deployment:
        """Return the deployment that the environment names."""
        return cls(Path(os.environ[VARIABLE]), Places.from_environment())

    @cached_property
    def variables(self) -> dict[str, dict[str, Any]]:
        """The variables of every host, secrets among them."""
        return host_variables(str(self.inventory))

    @property
    def nodes(self) -> list[str]:
        """The hosts that run an agent."""
        return sorted(name for name, own in self.variables.items() if "node_name" in own)

    @property
    def authorities(self) -> list[str]:
        """The hosts that have CAs."""
        variable = "certification_authority_authorities"
        return [name for name in self.nodes if variable in self.variables[name]]

    def host(self, name: str) -> Host:
        """Return a host as OpenSSH reaches it; commands run as root."""
        return testinfra.get_host(
            f"ssh://{name}", ssh_config=str(self.places.ssh_configuration), sudo=True
        )

    def paramiko_host(self, name: str) -> Host:
        """Return a host as Paramiko reaches it; commands run as the login user.

        testinfra would accept any host key. This connection knows the right one.
        """
        configuration = paramiko.SSHConfig.from_path(str(self.places.ssh_configuration))
        found = configuration.lookup(name)
        client = paramiko.SSHClient()
        client.load_host_keys(str(self.places.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            found["hostname"],
            username=found["user"],
            key_filename=found["identityfile"],
            sock=paramiko.ProxyCommand(found["proxycommand"]),
            allow_agent=False,
            look_for_keys=False,
        )
        host = testinfra.get_host(f"paramiko://{name}")
        host.backend.client = client
        return host

    def as_root(self, name: str, command: str, *, given: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host that reads ``given``, which nobody else gets to see there."""
        ssh = ["ssh", "-F", str(self.places.ssh_configuration), name]
        return subprocess.run(
            [*ssh, f"sudo {command}"], input=given, capture_output=True, text=True, check=False
        )

    def controller(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the network of the controller, which has an address in each zone."""
        within = [*self.places.into_controller_namespace, *command]
        return subprocess.run(within, capture_output=True, text=True, check=False)

    def agent(self, name: str, *words: str) -> Any:
        """Return what an agent's command line says, as data."""
        asked = self.host(name).run(" ".join([AGENT, "--json", *words]))
        return json.loads(asked.stdout or asked.stderr)

    def trust_anchors(self, name: str) -> str:
        """Return the certificates that the RA's own certificate leads to."""
        made_of = self.agent(name, "node", "show")["objects"]["authenticators"]
        server = next(one["spec"] for one in made_of if one["spec"]["purpose"] == "server")
        return "\n".join(server["trust_anchors"])

    @property
    def into_machine_network(self) -> list[str]:
        """The words before a command that needs a package index.

        These tests have the network of a client. Who started them has the machine's own.
        """
        return ["nsenter", f"--net=/proc/{os.getppid()}/ns/net", "--"]

    def run_playbook(
        self, command: list[str], *options: str, timeout_seconds: float | None = None
    ) -> tuple[int, str]:
        """Run ``command``, as ``play`` returns it; return its status and all that it says."""
        done = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env=PLAIN,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        return done.returncode, done.stdout

    def play(self, playbook: str) -> list[str]:
        """Return the command that runs a shipped playbook on this inventory."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        inventories = [f"--inventory={self.inventory}", f"--inventory={self.places.inventory}"]
        return [program, *inventories, str(ROOT / "playbooks" / playbook)]
