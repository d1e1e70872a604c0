from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import Topology
from tests.support.audit_view import AuditView
from tests.support.chains import Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.node_process import Agent


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Yield real nodes, wired and healthy. Their tests take them over."""
    with Topology(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture
def denied_since(topology: Topology) -> Callable[[], list[dict[str, Any]]]:
    """Return what lists the CA's denials since this test began."""
    return AuditView(topology.ca).denials


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


@pytest.fixture
def since_now() -> Callable[[Agent], AuditView]:
    """Return what remembers where a node's log ends now."""
    return AuditView
