"""``ValidationChain``: a topology whose VA feeds another one. The CA knows of the second VA, and is
not linked with it: what it records reaches va2 through va1, and va2's signer is certified the same
way back.

    ca1 -> va1 -> va2
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from tests.support.agents import AUTHORITY, Topology
from tests.support.chains import role
from tests.support.node_process import Agent
from tests.support.processes import free_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ValidationChain"]

_SIGNER = (f"/ca/{AUTHORITY}", f"/signer/{AUTHORITY}/renew")
_PUBLISH = tuple(f"/peer/publish/{verb}" for verb in ("certificate", "status", "crl", "read"))
_CAS = ("/ca/root", f"/ca/{AUTHORITY}", "/ca/management")


class ValidationChain(Topology):
    """ca1, ra1, va1, and va2 behind va1. ``options`` are further ones of the publisher to va2."""

    def __init__(
        self,
        directory: Path,
        *,
        store_url: Callable[[str], str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(directory, store_url=store_url)
        self.options = dict(options or {})
        settings = {} if store_url is None else {"store_url": store_url("va2")}
        listen = {"peer": free_address(), "status": free_address()}
        self.va2 = Agent(directory / "va2", "va2", listen=listen, settings=settings)
        self.agents = (*self.agents, self.va2)

    def wire(self) -> None:
        """Wire the first three as ever, then va2 behind va1."""
        self.va2.admin.apply(authenticators=[{"name": "peer"}])
        super().wire()
        self._feed()

    def wipe(self, agent: Agent) -> None:
        """Have a VA begin again with nothing, as on a new disk, and set it up as before."""
        agent.stop()
        shutil.rmtree(agent.directory / "state")
        self.start_agent(agent)
        agent.admin.apply(authenticators=[{"name": "peer"}])
        agent.certify(self.ca)
        if agent is self.va:
            agent.admin.apply(
                peer_roles=[
                    role(
                        "upstream",
                        self.ca,
                        *("/peer/incoming", "/peer/upstream", "/peer/publish/**", "/ca/**"),
                    )
                ],
                signers=[{"name": AUTHORITY, "authority": AUTHORITY}],
            )
        self._feed()

    def publisher(self, agent: Agent, name: str) -> dict[str, Any]:
        """Return the state of an agent's publisher."""
        state: dict[str, Any] = agent.admin.get(f"/v1/objects/publishers/{name}")["state"]
        return state

    def _feed(self) -> None:
        relay = ("/peer/incoming", "/peer/relay", *_SIGNER)
        self.ca.admin.apply(
            peer_roles=[role("validation", self.va, *relay), role("behind", self.va2, *_SIGNER)]
        )
        self.va2.admin.apply(
            peer_roles=[
                role(
                    "nearer",
                    self.va,
                    *("/peer/incoming", "/peer/upstream", "/peer/relay"),
                    *(*_PUBLISH, *_CAS),
                ),
                role("authority", self.ca, "/peer/upstream", f"/ca/{AUTHORITY}"),
            ],
            signers=[{"name": AUTHORITY, "authority": AUTHORITY}],
        )
        self.va.admin.apply(
            peer_roles=[role("farther", self.va2, "/peer/incoming", *_SIGNER)],
            peer_connectors=[
                {"name": "va2", "address": self.va2.listen["peer"], "peer": self.va2.identity}
            ],
            publishers=[
                {
                    "name": "va2",
                    "peer": self.va2.identity,
                    "authorities": ["root", AUTHORITY],
                    **self.options,
                },
                {
                    "name": "va2-management",
                    "peer": self.va2.identity,
                    "authorities": ["management"],
                    "content": ["crl"],
                },
            ],
        )
