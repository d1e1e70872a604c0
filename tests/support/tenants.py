"""A tenant with a Management CA and a trust domain of its own, added to a running ``Chain``.

Everything goes through the admin API, as an operator does it: the tenant's issuer and role at the
proxy and at the CA, the operator's issuer at the tenant's RA. Nothing is restarted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.agents import allow, server_authenticator, tester
from tests.support.chains import relay_role, role, tenant_rules
from tests.support.node_process import Agent
from tests.support.processes import free_address, wait_until
from tests.support.rest import RestClient

if TYPE_CHECKING:
    from tests.support.chains import Chain

__all__ = ["Tenant"]


@dataclass(eq=False)
class Tenant:
    """The RA ``ra1`` of ``<name>.example`` behind the chain's ``proxy``; may use ``authorities``.

    ``role`` are further fields of its role at the CA.
    """

    chain: Chain
    name: str
    proxy: str
    ca: str
    authorities: tuple[str, ...]
    role: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ra = Agent(
            self.chain.directory / self.name,
            "ra1",
            trust_domain=f"{self.name}.example",
            listen={"rest": free_address()},
        )

    def start(self) -> Tenant:
        """Start the RA and make all that is the tenant's own."""
        self.ra.start()
        host = self.ra.listen["rest"].rpartition(":")[0]
        self.ra.admin.apply(
            certification_authorities=[
                {
                    "name": "management",
                    "kind": "management",
                    "subject": f"CN={self.name} Management CA",
                }
            ],
            authenticators=[
                {"name": "peer"},
                server_authenticator(host),
            ],
            requesters=[tester(self.chain.token, allow(*tenant_rules(*self.authorities)))],
            peer_issuers=[self.operators_issuer()],
            peer_roles=[
                role(
                    self.ca,
                    self.chain[self.ca],
                    "/peer/upstream",
                    *(f"/ca/{name}" for name in self.authorities),
                ),
                relay_role(self.chain[self.proxy]),
            ],
        )
        self.ra.certify(self.ra)
        self.ra.certify(self.ra, "rest")
        return self

    def stop(self) -> None:
        """Stop the RA."""
        self.ra.stop()

    def operators_issuer(self) -> dict[str, Any]:
        """Return the operator's Management CA as the tenant knows it."""
        return {
            "name": "operator",
            "trust_domain": self.chain[self.ca].trust_domain,
            "trust_anchors": [self.chain.trust_anchors],
        }

    def issuer(self) -> dict[str, Any]:
        """Return the tenant's Management CA as the operator knows it, with its newest CRL."""
        state = self.ra.admin.state("certification_authorities", "management")
        return {
            "name": self.name,
            "trust_domain": self.ra.trust_domain,
            "trust_anchors": [state["certificate"]],
            "crls": [state["crl"]],
        }

    def admit(self) -> None:
        """Have proxy and CA know the tenant, then let its RA dial the proxy."""
        rules = tenant_rules(*self.authorities)
        for node, resources in ((self.proxy, ("/peer/incoming", *rules)), (self.ca, rules)):
            more = self.role if node == self.ca else {}
            self.chain[node].admin.apply(
                peer_issuers=[self.issuer()],
                peer_roles=[{**role(self.name, self.ra, *resources), **more}],
            )
        self.ra.admin.apply(peer_connectors=[self.chain.connector(self.ca, self.proxy)])
        wait_until(
            lambda: self.rest().request("GET", "/v1/catalogue")[0] == 200,
            timeout_seconds=30,
            what=f"{self.name} sees its catalogue",
        )

    def rest(self) -> RestClient:
        """Return a client of the tenant's RA as its requester."""
        anchor = self.ra.admin.state("certification_authorities", "management")["certificate"]
        return RestClient(self.ra.listen["rest"], token=self.chain.token, trust_anchors=anchor)
