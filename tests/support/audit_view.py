"""What a node's audit log gained while a test ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.node_process import Agent

__all__ = ["AuditView", "is_denial"]


def is_denial(entry: dict[str, Any]) -> bool:
    """Tell whether a request or a link was denied. Handshakes that fail are counted by the minute,
    so their entries belong to no test.
    """
    return not entry["allowed"] and entry["action"] != "peer.handshake"


class AuditView:
    """What the log of ``agent`` gained since this was made."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        newest = agent.admin.get("/v1/audit?last=true&limit=1")
        self._last = newest[-1]["sequence"] if newest else 0

    def entries(self) -> list[dict[str, Any]]:
        """Return every entry, oldest first."""
        found: list[dict[str, Any]] = []
        after = self._last
        while page := self._agent.admin.get(f"/v1/audit?after={after}&limit=5000"):
            found += page
            after = page[-1]["sequence"]
        return found

    def denials(self) -> list[dict[str, Any]]:
        """Return what was denied, failed handshakes apart."""
        return [entry for entry in self.entries() if is_denial(entry)]
