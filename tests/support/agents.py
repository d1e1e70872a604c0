"""``Topology``: a CA, an RA and a VA as real agents on loopback addresses, wired together through
the admin API alone, exactly as an operator without Ansible would do it.

The CA listens nowhere and dials both others. Tests and benchmarks share this.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from tests.support.admin import AdminClient, AdminError
from tests.support.node_process import Agent
from tests.support.processes import free_address, wait_until
from tests.support.rest import RestClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "AdminClient",
    "AdminError",
    "Agent",
    "Topology",
    "allow",
    "server_authenticator",
    "tester",
]

AUTHORITY = "issuing"
PROFILE = "server"


def allow(*resources: str) -> list[dict[str, str]]:
    """Return access rules that allow these resources."""
    return [{"resource": resource} for resource in resources]


def server_authenticator(host: str) -> dict[str, Any]:
    """Return the authenticator ``rest`` of an RA whose REST interface is at ``host``."""
    return {
        "name": "rest",
        "purpose": "server",
        "dns_names": ["localhost"],
        "ip_addresses": [host],
    }


def tester(token: str, rules: list[dict[str, str]]) -> dict[str, Any]:
    """Return a requester with an API token, who may ask as often as tests and benchmarks like:
    their load comes from this one.
    """
    return {
        "name": "tester",
        "token_sha256": hashlib.sha256(token.encode()).hexdigest(),
        "rules": rules,
        "requests_per_second": 100_000,
        "burst_requests": 100_000,
    }


class Topology:
    """ca1, ra1 and va1 below ``directory``; a context manager that starts, wires and stops them.

    ``store_url`` gives a node's store by its name (None: SQLite in its state directory);
    ``settings`` are further keys of every start-up file, ``cpus`` pins nodes by name. With
    ``crypto_token`` (its specification) the issuing CA and the VA's signer have their keys there.
    ``signer_kind`` is the signer's key kind: else RSA in such a token, and the default elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store_url: Callable[[str], str] | None = None,
        settings: Mapping[str, Any] | None = None,
        cpus: Mapping[str, str] | None = None,
        interpreter_options: Mapping[str, tuple[str, ...]] | None = None,
        crypto_token: Mapping[str, Any] | None = None,
        signer_kind: str | None = None,
    ) -> None:
        self._crypto_token = dict(crypto_token or {})
        self._signer_kind = signer_kind
        self._cpus = dict(cpus or {})
        self._interpreter_options = dict(interpreter_options or {})
        self.token = secrets.token_hex(24)
        self.trust_anchors = ""

        def agent(name: str, **listen: str) -> Agent:
            own = dict(settings or {})
            if store_url is not None:
                own["store_url"] = store_url(name)
            return Agent(directory / name, name, listen=listen, settings=own)

        self.ca = agent("ca1")
        self.ra = agent("ra1", peer=free_address(), rest=free_address())
        self.va = agent("va1", peer=free_address(), status=free_address())
        self.agents: tuple[Agent, ...] = (self.ca, self.ra, self.va)

    def __enter__(self) -> Topology:
        try:
            self.start()
            self.wire()
            self.wait_healthy()
        except BaseException as error:
            error.add_note("\n".join(agent.explain_failure() for agent in self.agents))
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note("\n".join(agent.explain_failure() for agent in self.agents))
        self.stop()

    def start(self) -> None:
        """Start all three agents side by side."""
        for agent in self.agents:
            agent.launch(**self._start_options(agent))
        for agent in self.agents:
            agent.wait_ready()

    def start_agent(self, agent: Agent) -> None:
        """Start one of them as the topology was told to (pinned, with interpreter options)."""
        agent.start(**self._start_options(agent))

    def stop(self) -> None:
        """Stop all three cleanly, the CA first so that nothing dials a closed port."""
        for agent in self.agents:
            agent.stop()

    def wire(self) -> None:
        """Make every object on every node: nothing else is needed for a working PKI."""
        self._create_authorities()
        self._create_edges()
        for agent in self.agents:
            issued = agent.certify(self.ca)
            self.trust_anchors = "".join(issued["trust_anchors"])
        self.ra.certify(self.ca, "rest")
        self._grant_roles()
        self._connect()

    def wait_healthy(self, *, timeout_seconds: float = 30) -> None:
        """Wait until every node says that all its parts work."""
        for agent in self.agents:
            wait_until(
                lambda agent=agent: agent.admin.get("/v1/status")["health"] == "ok",  # type: ignore[misc]
                timeout_seconds=timeout_seconds,
                what=lambda agent=agent: (  # type: ignore[misc]
                    f"{agent.name} is healthy: {agent.admin.get('/v1/status')['reasons']}"
                ),
            )

    def rest(self) -> RestClient:
        """Return a client of the RA as the requester ``tester``."""
        return RestClient(
            self.ra.listen["rest"], token=self.token, trust_anchors=self.trust_anchors
        )

    def _start_options(self, agent: Agent) -> dict[str, Any]:
        return {
            "cpus": self._cpus.get(agent.name),
            "interpreter_options": self._interpreter_options.get(agent.name, ()),
        }

    def _more_tokens(self) -> list[dict[str, Any]]:
        return [self._crypto_token] if self._crypto_token else []

    def _key(self, kind: str) -> dict[str, Any]:
        """Return where a key of the CA or the VA's signer is, if it isn't in the soft token."""
        token = self._crypto_token
        return {"crypto_token": token["name"], "key_kind": kind} if token else {}

    def _signer_key(self) -> dict[str, Any]:
        key = self._key("rsa-2048")
        return key if self._signer_kind is None else {**key, "key_kind": self._signer_kind}

    def _create_authorities(self) -> None:
        status = f"http://{self.va.listen['status']}"
        self.ca.admin.apply(
            crypto_tokens=[
                *({"name": "default"}, {"name": "offline", "activation": "on_demand"}),
                *self._more_tokens(),
            ],
            authenticators=[{"name": "peer"}],
            certificate_profiles=[server_profile()],
            certification_authorities=[
                {"name": "management", "kind": "management", "subject": "CN=Management CA"},
                {
                    "name": "root",
                    "kind": "root",
                    "subject": "CN=Test Root,O=Test",
                    "crypto_token": "offline",
                },
                {
                    "name": AUTHORITY,
                    "kind": "issuing",
                    "issuer": "root",
                    "subject": "CN=Test Issuing,O=Test",
                    "profiles": [PROFILE],
                    "ocsp_urls": [f"{status}/ocsp"],
                    "issuer_urls": [f"{status}/ca/{AUTHORITY}.cer"],
                    "crl_urls": [f"{status}/crl/{AUTHORITY}.crl"],
                    **self._key("ec-p384"),
                },
            ],
        )

    def _create_edges(self) -> None:
        host = self.ra.listen["rest"].rpartition(":")[0]
        self.ra.admin.apply(
            crypto_tokens=[{"name": "default"}],
            authenticators=[
                {"name": "peer"},
                server_authenticator(host),
            ],
            requesters=[tester(self.token, requester_rules())],
        )
        self.va.admin.apply(
            crypto_tokens=[{"name": "default"}, *self._more_tokens()],
            authenticators=[{"name": "peer"}],
        )

    def _grant_roles(self) -> None:
        self.ra.admin.apply(
            peer_roles=[
                _role(
                    "upstream",
                    self.ca,
                    "/peer/upstream",
                    "/peer/publish/crl",
                    "/peer/publish/read",
                    "/ca/**",
                )
            ]
        )
        self.va.admin.apply(
            peer_roles=[_role("upstream", self.ca, "/peer/upstream", "/peer/publish/**", "/ca/**")]
        )
        verbs = ("enroll", "revoke", "status", "search")
        self.ca.admin.apply(
            peer_roles=[
                _role(
                    "registration",
                    self.ra,
                    *(f"/ra/{verb}" for verb in verbs),
                    f"/ca/{AUTHORITY}",
                    f"/profile/{PROFILE}",
                    "/protocol/rest",
                ),
                _role("validation", self.va, f"/signer/{AUTHORITY}/renew", f"/ca/{AUTHORITY}"),
            ]
        )

    def _connect(self) -> None:
        self.va.admin.apply(
            signers=[{"name": AUTHORITY, "authority": AUTHORITY, **self._signer_key()}]
        )
        self.ca.admin.apply(
            peer_connectors=[
                {"name": agent.name, "address": agent.listen["peer"], "peer": agent.identity}
                for agent in (self.ra, self.va)
            ],
            publishers=[
                {
                    "name": "va1",
                    "peer": self.va.identity,
                    "authorities": ["root", AUTHORITY],
                },
                *(
                    {
                        "name": f"{agent.name}-management",
                        "peer": agent.identity,
                        "authorities": ["management"],
                        "content": ["crl"],
                    }
                    for agent in (self.ra, self.va)
                ),
            ],
        )


def server_profile() -> dict[str, Any]:
    """Return the profile that the tests and benchmarks enrol with: a TLS server certificate."""
    return {
        "name": PROFILE,
        "subject": [{"attribute": "common_name", "pattern": "[a-z0-9.-]{1,64}"}],
        "san": [{"kind": "dns", "pattern": "[a-z0-9.-]+", "minimum": 1}],
        "key_usage": ["digital_signature"],
        "extended_key_usage": ["server_auth"],
        "validity_days": 30,
    }


def requester_rules() -> list[dict[str, str]]:
    """Return what the requester ``tester`` may do at the RA."""
    verbs = (f"/ra/{verb}" for verb in ("enroll", "revoke", "status", "search"))
    return allow(*verbs, f"/ca/{AUTHORITY}", f"/profile/{PROFILE}", "/protocol/rest")


def _role(name: str, member: Agent, *resources: str) -> dict[str, Any]:
    return {
        "name": name,
        "members": [member.identity],
        "rules": allow("/peer/incoming", *resources),
    }
