from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology
from tests.support.chains import Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.node_process import Agent


def is_denial(entry: dict[str, Any]) -> bool:
    """Tell whether a request or a link was denied. Handshakes that fail are counted by the minute,
    so their entries belong to no test.
    """
    return not entry["allowed"] and entry["action"] != "peer.handshake"


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Yield real nodes, wired and healthy. Their tests take them over."""
    with Topology(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture
def denied_since(topology: Topology) -> Callable[[], list[dict[str, Any]]]:
    """Return what lists the CA's denials since this test began."""
    newest = topology.ca.admin.get("/v1/audit?last=true&limit=1")
    last = newest[-1]["sequence"] if newest else 0

    def denials() -> list[dict[str, Any]]:
        entries = topology.ca.admin.get(f"/v1/audit?after={last}&limit=10000")
        return [entry for entry in entries if is_denial(entry)]

    return denials


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Yield one CA node with a CA for each of two tenants, behind one proxy."""
    with Chain(
        tmp_path_factory.mktemp("tenants"),
        cas={"ca1": ("issuing", "other")},
        proxies=["inner"],
        behind={"alpha": ("issuing",), "beta": ("other",)},
        dials=[("ca1", "inner"), ("alpha", "inner"), ("beta", "inner")],
        profiles={"other": "private"},
    ) as found:
        yield found


class AuditView:
    """What a node's log gained since this was made."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._last = 0
        self._last = max((entry["sequence"] for entry in self.entries()), default=0)

    def entries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = self._last
        while page := self._agent.admin.get(f"/v1/audit?after={after}&limit=5000"):
            found += page
            after = page[-1]["sequence"]
        return found

    def denials(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if is_denial(entry)]


@pytest.fixture
def since_now() -> Callable[[Agent], AuditView]:
    """Return what remembers where a node's log ends now."""
    return AuditView
