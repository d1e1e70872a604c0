from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Yield real nodes, wired and healthy. Their tests take them over."""
    with Topology(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture
def denied_since(topology: Topology) -> Callable[[], list[dict[str, Any]]]:
    """Return what lists the CA's denials since this test began."""
    before = topology.ca.admin.get("/v1/audit?limit=10000")
    last = before[-1]["sequence"] if before else 0

    def denials() -> list[dict[str, Any]]:
        entries = topology.ca.admin.get(f"/v1/audit?after={last}&limit=10000")
        return [entry for entry in entries if not entry["allowed"]]

    return denials
