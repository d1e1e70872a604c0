"""One real agent: ``peersys run`` as a process with its files below one directory."""

from __future__ import annotations

import http.client
import json
import secrets
import stat
import sys
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.admin import AdminClient, AdminError
from tests.support.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Agent"]


class Agent:
    """One node agent in ``directory``: its files, its process, its admin client.

    ``peer``, ``rest`` and ``status`` are the ``host:port`` it listens on; absent ones are closed.
    ``settings`` are further keys of its start-up file (``workers``, ``log_level``, ``store_url``).
    """

    module = "node_agent"
    """What Python runs. The suite's conftest.py takes one whose keys cost less."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        listen: Mapping[str, str] | None = None,
        trust_domain: str = "pki.example.org",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.name = name
        self.trust_domain = trust_domain
        self.listen = dict(listen or {})
        self.settings = dict(settings or {})
        self.admin = AdminClient(directory / "run" / "admin.sock")
        self.process: ManagedProcess | None = None

    @property
    def identity(self) -> str:
        """The node's lasting name."""
        return f"spiffe://{self.trust_domain}/node/{self.name}"

    @property
    def config_path(self) -> Path:
        """The agent's start-up file."""
        return self.directory / "node.yaml"

    @property
    def log_path(self) -> Path:
        """Where its output goes, over all its starts."""
        return self.directory / "agent.log"

    def write_files(self) -> None:
        """Write start-up file and passphrase (kept when they are there already)."""
        for part in ("state", "run"):
            (self.directory / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        passphrase = self.directory / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            passphrase.write_text(secrets.token_urlsafe(24) + "\n")
        config = {
            "name": self.name,
            "trust_domain": self.trust_domain,
            "state_directory": str(self.directory / "state"),
            "runtime_directory": str(self.directory / "run"),
            "passphrase_file": str(passphrase),
            "listen": self.listen,
            **self.settings,
        }
        self.config_path.write_text(yaml.safe_dump(config))

    def start(
        self,
        *,
        cpus: str | None = None,
        interpreter_options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 45,
    ) -> Agent:
        """Start the agent and wait until its admin socket answers; return it."""
        self.launch(cpus=cpus, interpreter_options=interpreter_options, environment=environment)
        self.wait_ready(timeout_seconds=timeout_seconds)
        return self

    def launch(
        self,
        *,
        cpus: str | None = None,
        interpreter_options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the agent without waiting: several can come up side by side."""
        self.write_files()
        arguments = [*interpreter_options, "-m", self.module, "run", "--config"]
        self.process = ManagedProcess(
            [sys.executable, *arguments, self.config_path],
            log_path=self.log_path,
            cpus=cpus,
            environment={"PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        self.process.start()

    def wait_ready(self, *, timeout_seconds: float = 45) -> None:
        """Wait until the admin socket answers; an agent that doesn't come up is killed."""
        try:
            self.running.wait_ready(self.admin.is_healthy, timeout_seconds=timeout_seconds)
        except BaseException:
            self.running.kill()
            raise

    def stop(self) -> int | None:
        """Stop it cleanly; return the exit status."""
        return None if self.process is None else self.process.stop()

    def kill(self) -> None:
        """Kill it at once, as a power cut does."""
        self.running.kill()

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self.running.pause()

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.running.resume()

    @property
    def running(self) -> ManagedProcess:
        """Its process. Raises RuntimeError before the first start."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process

    def certify(self, authority: Agent, authenticator: str = "peer") -> dict[str, Any]:
        """Have ``authority``'s Management CA certify an authenticator, and install the result."""
        specification = self.admin.get(f"/v1/objects/authenticators/{authenticator}")
        spec, state = specification["spec"], specification["state"]
        is_peer = spec["purpose"] == "peer"
        issued = authority.admin.post(
            "/v1/management-certificates",
            {
                "authority": "management",
                "csr": state["csr"],
                "purpose": spec["purpose"],
                "identity": self.identity if is_peer else None,
                "dns_names": spec.get("dns_names", []),
                "ip_addresses": spec.get("ip_addresses", []),
                "renew_before_days": 10,
            },
        )
        installed = {
            **spec,
            "certificate": issued["certificate"],
            "trust_anchors": issued["trust_anchors"],
            "crls": [issued["crl"]] if issued["crl"] else [],
        }
        self.admin.put(f"/v1/objects/authenticators/{authenticator}", installed)
        answer: dict[str, Any] = issued
        return answer

    def explain_failure(self) -> str:
        """Return what a reader of a failed test needs: status and the end of the log."""
        try:
            status = json.dumps(self.admin.get("/v1/status"), indent=1)
        except (OSError, http.client.HTTPException, AdminError, ValueError) as error:
            status = f"no status: {error!r}"
        tail = self.process.log_tail() if self.process is not None else "(never started)"
        return f"--- {self.name} status\n{status}\n--- {self.name} log\n{tail}"
