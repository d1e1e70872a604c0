"""``Chain``: CAs, RA proxies and tenant RAs as real agents on loopback. Only proxies listen for
peers; CAs and tenants dial them, and an inner proxy dials an outer one.

    ca1, ca2 -> inner <- near               requests: near -> inner -> ca1 or ca2
                inner -> outer <- far                 far -> outer -> inner -> ca1 or ca2
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.agents import (
    PROFILE,
    allow,
    server_authenticator,
    server_profile,
    tester,
)
from tests.support.node_process import Agent
from tests.support.processes import free_address, wait_until
from tests.support.rest import RestClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["VERBS", "Chain", "relay_role", "role", "tenant_rules"]

VERBS = tuple(f"/ra/{verb}" for verb in ("enroll", "approve", "revoke", "status", "search"))


def role(name: str, member: Agent, *resources: str) -> dict[str, Any]:
    """Return a peer role with one member."""
    return {"name": name, "members": [member.identity], "rules": allow(*resources)}


def tenant_rules(*authorities: str, profiles: Sequence[str] = (PROFILE,)) -> tuple[str, ...]:
    """Return what a tenant may do with ``authorities``."""
    return (
        *VERBS,
        *(f"/ca/{name}" for name in authorities),
        *(f"/profile/{name}" for name in profiles),
        "/protocol/rest",
    )


def relay_role(proxy: Agent) -> dict[str, Any]:
    """Return the role of a proxy that is nearer to the CA."""
    return role(proxy.name, proxy, "/peer/incoming", "/peer/upstream", "/peer/relay")


@dataclass(eq=False)
class Chain:
    """The agents by what they are; a context manager that starts, wires and stops them.

    ``cas`` maps each CA node to its issuing CAs, ``dials`` says who dials whom, ``behind`` names
    for each tenant RA the CAs that it may use, ``profiles`` names a CA's profile where it isn't the
    usual one. The first CA node holds the Management CA.
    """

    directory: Path
    cas: dict[str, tuple[str, ...]]
    proxies: Sequence[str]
    behind: dict[str, tuple[str, ...]]
    dials: Sequence[tuple[str, str]]
    profiles: dict[str, str] = field(default_factory=dict)
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

    @property
    def management(self) -> Agent:
        """The node with the Management CA."""
        return self[next(iter(self.cas))]

    def _wire(self) -> None:
        for name, authorities in self.cas.items():
            self._create_authorities(self[name], authorities)
        for agent in self.agents.values():
            if agent.name not in self.cas:
                agent.admin.apply(crypto_tokens=[{"name": "default"}])
            agent.admin.apply(authenticators=[{"name": "peer"}])
            issued = agent.certify(self.management)
            self.trust_anchors = "".join(issued["trust_anchors"])
        for name, authorities in self.behind.items():
            self._create_requester(self[name], authorities)
            self[name].certify(self.management, "rest")
        for agent in self.agents.values():
            agent.admin.apply(peer_roles=self.roles_at(agent.name))
        for dialler in self.agents:
            links = [self.connector(one, other) for one, other in self.dials if one == dialler]
            self[dialler].admin.apply(peer_connectors=links)
        self._publish_revocations()

    def _publish_revocations(self) -> None:
        """Have the Management CA's CRL sent to the proxies that its node dials."""
        dialled = [other for one, other in self.dials if self[one] is self.management]
        self.management.admin.apply(
            publishers=[
                {
                    "name": f"{name}-management",
                    "peer": self[name].identity,
                    "authorities": ["management"],
                    "content": ["crl"],
                }
                for name in dialled
            ]
        )

    def rules_for(self, *authorities: str) -> tuple[str, ...]:
        """Return what a tenant may do with ``authorities``."""
        profiles = {self.profiles.get(name, PROFILE) for name in authorities}
        return tenant_rules(*authorities, profiles=sorted(profiles))

    def roles_at(self, name: str) -> list[dict[str, Any]]:
        """Return the roles that a node needs: by the table in docs/reference/policy.md."""
        if name in self.cas:
            return self._roles_at_ca(name)
        authorities = [self._role_of_ca(ca) for ca in self.cas]
        nearer = self._nearer_proxies(name)
        upstream = [relay_role(self[proxy]) for proxy in nearer]
        if name in self.behind:
            return [*authorities, *upstream]
        everything = self.rules_for(*(name for names in self.cas.values() for name in names))
        farther = [
            role(proxy, self[proxy], "/peer/incoming", "/peer/relay", *everything)
            for proxy in self.proxies
            if proxy != name and proxy not in nearer
        ]
        tenants = [
            role(tenant, self[tenant], "/peer/incoming", *self.rules_for(*wanted))
            for tenant, wanted in self.behind.items()
        ]
        return [*authorities, *upstream, *farther, *tenants]

    def _role_of_ca(self, name: str) -> dict[str, Any]:
        resources = ["/peer/incoming", "/peer/upstream", *(f"/ca/{ca}" for ca in self.cas[name])]
        if self[name] is self.management:
            resources += ["/peer/publish/crl", "/peer/publish/read", "/ca/management"]
        return role(name, self[name], *resources)

    def _roles_at_ca(self, name: str) -> list[dict[str, Any]]:
        own = self.cas[name]
        return [
            *(
                role(proxy, self[proxy], "/peer/incoming", "/peer/relay", *self.rules_for(*own))
                for proxy in self.proxies
            ),
            *(
                role(tenant, self[tenant], *self.rules_for(*(set(wanted) & set(own))))
                for tenant, wanted in self.behind.items()
                if set(wanted) & set(own)
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

    def _create_authorities(self, agent: Agent, names: Sequence[str]) -> None:
        authorities: list[dict[str, Any]] = []
        if agent is self.management:
            authorities += [
                {"name": "management", "kind": "management", "subject": "CN=Management CA"}
            ]
        for name in names:
            root = {"name": f"root-{name}", "kind": "root", "subject": f"CN=Root of {name}"}
            issuing = {
                "name": name,
                "kind": "issuing",
                "issuer": root["name"],
                "subject": f"CN={name}",
                "profiles": [self.profiles.get(name, PROFILE)],
            }
            authorities += [root, issuing]
        profiles = sorted({self.profiles.get(name, PROFILE) for name in names})
        agent.admin.apply(
            crypto_tokens=[{"name": "default"}],
            certificate_profiles=[{**server_profile(), "name": name} for name in profiles],
            certification_authorities=authorities,
        )

    def _create_requester(self, agent: Agent, authorities: Sequence[str]) -> None:
        host = agent.listen["rest"].rpartition(":")[0]
        agent.admin.apply(
            authenticators=[
                {"name": "peer"},
                server_authenticator(host),
            ],
            requesters=[tester(self.token, allow(*self.rules_for(*authorities)))],
        )

    def _explain(self, error: BaseException) -> None:
        error.add_note("\n".join(agent.explain_failure() for agent in self.agents.values()))
