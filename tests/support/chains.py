"""``Chain``: CAs, RA proxies and tenant RAs as real agents on loopback. Only proxies listen for
peers; CAs and tenants dial them, and an inner proxy dials an outer one.

    ca1, ca2 -> inner <- near               requests: near -> inner -> ca1 or ca2
                inner -> outer <- far                 far -> outer -> inner -> ca1 or ca2
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.agents import PROFILE, allow, server_profile
from tests.support.node_process import Agent
from tests.support.processes import free_address, wait_until
from tests.support.rest import RestClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["VERBS", "Chain", "relay_role", "role", "tenant_rules"]

VERBS = tuple(f"/ra/{verb}" for verb in ("enroll", "revoke", "status", "search"))


def role(name: str, member: Agent, *resources: str) -> dict[str, Any]:
    """Return a peer role with one member."""
    return {"name": name, "members": [member.identity], "rules": allow(*resources)}


def tenant_rules(*authorities: str) -> tuple[str, ...]:
    """Return what a tenant may do with ``authorities``."""
    return (
        *VERBS,
        *(f"/ca/{name}" for name in authorities),
        f"/profile/{PROFILE}",
        "/protocol/rest",
    )


def relay_role(proxy: Agent) -> dict[str, Any]:
    """Return the role of a proxy that is nearer to the CA."""
    return role(proxy.name, proxy, "/peer/incoming", "/peer/upstream", "/peer/relay")


@dataclass(eq=False)
class Chain:
    """The agents by what they are; a context manager that starts, wires and stops them.

    ``cas`` maps each CA node to its issuing CA, ``dials`` says who dials whom, ``behind`` names for
    each tenant RA the CAs that it may use.
    """

    directory: Path
    cas: dict[str, str]
    proxies: Sequence[str]
    behind: dict[str, tuple[str, ...]]
    dials: Sequence[tuple[str, str]]
    agents: dict[str, Agent] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_hex(24))
    trust_anchors: str = ""

    def __post_init__(self) -> None:
        for name in (*self.cas, *self.proxies, *self.behind):
            listen = {}
            if name in self.proxies:
                listen["peer"] = free_address()
            if name in self.behind:
                listen["rest"] = free_address()
            self.agents[name] = Agent(self.directory / name, name, listen=listen)

    def __getitem__(self, name: str) -> Agent:
        return self.agents[name]

    def __enter__(self) -> Chain:
        with ExitStack() as stack:
            stack.callback(self.stop)
            try:
                self._start(self.agents.values())
                self._wire()
                self.wait_linked()
            except BaseException as error:
                self._explain(error)
                raise
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._explain(error)
        self.stop()

    def stop(self) -> None:
        """Stop all of them, who dials before who is dialled."""
        for agent in self.agents.values():
            agent.stop()

    def rest(self, tenant: str) -> RestClient:
        """Return a client of a tenant's RA as its requester."""
        return RestClient(
            self[tenant].listen["rest"], token=self.token, trust_anchors=self.trust_anchors
        )

    def wait_linked(self) -> None:
        """Wait until every connector is up and every tenant sees its CAs."""
        for name, agent in self.agents.items():
            wait_until(
                lambda agent=agent: all(  # type: ignore[misc]
                    peer["state"] == "up"
                    for peer in agent.admin.get("/v1/peers")
                    if peer["direction"] == "out"
                ),
                timeout_seconds=30,
                what=f"the connectors of {name} are up",
            )
        for name, wanted in self.behind.items():
            wait_until(
                lambda name=name, wanted=wanted: self.seen_by(name) == sorted(wanted),  # type: ignore[misc]
                timeout_seconds=30,
                what=f"{name} sees {wanted}",
            )

    def seen_by(self, tenant: str) -> list[str]:
        """Return the CAs in a tenant's catalogue."""
        status, answer = self.rest(tenant).request("GET", "/v1/catalogue")
        return [item["name"] for item in answer["authorities"]] if status == 200 else []

    def denials(self, name: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return what a node denied since its audit entry ``after``."""
        entries = self[name].admin.get(f"/v1/audit?after={after}&limit=10000")
        return [entry for entry in entries if not entry["allowed"]]

    def audited(self, name: str) -> list[dict[str, Any]]:
        """Return a node's whole audit log."""
        entries: list[dict[str, Any]] = self[name].admin.get("/v1/audit?limit=10000")
        return entries

    def connector(self, dialler: str, dialled: str) -> dict[str, str]:
        """Return the connector from one node to another."""
        other = self[dialled]
        return {"name": dialled, "address": other.listen["peer"], "peer": other.identity}

    def _start(self, agents: Iterable[Agent]) -> None:
        for agent in agents:
            agent.launch()
        for agent in agents:
            agent.wait_ready()

    def _wire(self) -> None:
        management = self[next(iter(self.cas))]
        for name, authority in self.cas.items():
            self._create_authority(self[name], authority, is_management=self[name] is management)
        for agent in self.agents.values():
            if agent.name not in self.cas:
                agent.admin.apply(crypto_tokens=[{"name": "default"}])
            agent.admin.apply(authenticators=[{"name": "peer"}])
            issued = agent.certify(management)
            self.trust_anchors = "".join(issued["trust_anchors"])
        for name, authorities in self.behind.items():
            self._create_requester(self[name], authorities)
            self[name].certify(management, "rest")
        for agent in self.agents.values():
            agent.admin.apply(peer_roles=self.roles_at(agent.name))
        for dialler in self.agents:
            links = [self.connector(one, other) for one, other in self.dials if one == dialler]
            self[dialler].admin.apply(peer_connectors=links)

    def roles_at(self, name: str) -> list[dict[str, Any]]:
        """Return the roles that a node needs: by the table in docs/reference/policy.md."""
        if name in self.cas:
            return self._roles_at_ca(name)
        authorities = [
            role(ca, self[ca], "/peer/incoming", "/peer/upstream", f"/ca/{authority}")
            for ca, authority in self.cas.items()
        ]
        nearer = self._nearer_proxies(name)
        upstream = [relay_role(self[proxy]) for proxy in nearer]
        if name in self.behind:
            return [*authorities, *upstream]
        everything = tenant_rules(*self.cas.values())
        farther = [
            role(proxy, self[proxy], "/peer/incoming", "/peer/relay", *everything)
            for proxy in self.proxies
            if proxy != name and proxy not in nearer
        ]
        tenants = [
            role(tenant, self[tenant], "/peer/incoming", *tenant_rules(*wanted))
            for tenant, wanted in self.behind.items()
        ]
        return [*authorities, *upstream, *farther, *tenants]

    def _roles_at_ca(self, name: str) -> list[dict[str, Any]]:
        own = self.cas[name]
        return [
            *(
                role(proxy, self[proxy], "/peer/incoming", "/peer/relay", *tenant_rules(own))
                for proxy in self.proxies
            ),
            *(
                role(tenant, self[tenant], *tenant_rules(own))
                for tenant, wanted in self.behind.items()
                if own in wanted
            ),
        ]

    def _nearer_proxies(self, name: str) -> list[str]:
        """A tenant dials what is nearer to the CA; an inner proxy dials an outer one."""
        if name in self.behind:
            return [dialled for dialler, dialled in self.dials if dialler == name]
        return [
            dialler
            for dialler, dialled in self.dials
            if dialled == name and dialler in self.proxies
        ]

    def _create_authority(self, agent: Agent, name: str, *, is_management: bool) -> None:
        management = {"name": "management", "kind": "management", "subject": "CN=Management CA"}
        root = {"name": f"root-{name}", "kind": "root", "subject": f"CN=Root of {name}"}
        agent.admin.apply(
            crypto_tokens=[{"name": "default"}],
            certificate_profiles=[server_profile()],
            certification_authorities=[
                *([management] if is_management else []),
                root,
                {
                    "name": name,
                    "kind": "issuing",
                    "issuer": root["name"],
                    "subject": f"CN={name}",
                    "profiles": [PROFILE],
                },
            ],
        )

    def _create_requester(self, agent: Agent, authorities: Sequence[str]) -> None:
        host = agent.listen["rest"].rpartition(":")[0]
        agent.admin.apply(
            authenticators=[
                {"name": "peer"},
                {
                    "name": "rest",
                    "purpose": "server",
                    "dns_names": ["localhost"],
                    "ip_addresses": [host],
                },
            ],
            requesters=[
                {
                    "name": "tester",
                    "token_sha256": hashlib.sha256(self.token.encode()).hexdigest(),
                    "rules": allow(*tenant_rules(*authorities)),
                }
            ],
        )

    def _explain(self, error: BaseException) -> None:
        error.add_note("\n".join(agent.explain_failure() for agent in self.agents.values()))
