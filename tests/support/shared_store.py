"""``SharedTopology``: two CA nodes on one PostgreSQL store, an RA and a VA."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from tests.support.agents import Agent, Topology, allow

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SharedTopology"]


class SharedTopology(Topology):
    """ca1 and ca2 on the store at ``store_url``, ra1 and va1 with stores of their own."""

    def __init__(self, directory: Path, store_url: str) -> None:
        super().__init__(directory)
        self.shared_passphrase = directory / "shared_passphrase"
        directory.mkdir(parents=True, exist_ok=True)
        self.shared_passphrase.touch(mode=0o600)
        self.shared_passphrase.write_text(secrets.token_urlsafe(24))
        self.ca.settings |= self.sharing(store_url)
        self.ca2 = Agent(directory / "ca2", "ca2", settings=self.sharing(store_url))
        self.authorities = (self.ca, self.ca2)
        self.agents = (self.ca, self.ca2, self.ra, self.va)

    def sharing(self, store_url: str) -> dict[str, str]:
        """Return what a node's start-up file says of the shared store."""
        return {"store_url": store_url, "shared_passphrase_file": str(self.shared_passphrase)}

    def publisher_states(self) -> dict[str, str]:
        """Return the state of the publisher for the VA at each CA node that runs."""
        return {
            agent.name: agent.admin.get("/v1/objects/publishers/va1")["state"]["state"]
            for agent in self.authorities
            if agent.running.is_running
        }

    def _create_edges(self) -> None:
        super()._create_edges()
        self.ca2.admin.apply(authenticators=[{"name": "peer"}])

    def _grant_roles(self) -> None:
        super()._grant_roles()
        for agent, publishing in (
            (self.ra, ["/peer/publish/crl", "/peer/publish/read"]),
            (self.va, ["/peer/publish/**"]),
        ):
            rules = allow("/peer/incoming", "/peer/upstream", *publishing, "/ca/**")
            members = [authority.identity for authority in self.authorities]
            agent.admin.apply(peer_roles=[{"name": "upstream", "members": members, "rules": rules}])

    def _connect(self) -> None:
        super()._connect()
        self.ca2.admin.apply(
            peer_connectors=[
                {"name": agent.name, "address": agent.listen["peer"], "peer": agent.identity}
                for agent in (self.ra, self.va)
            ]
        )
