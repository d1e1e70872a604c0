"""Running topologies for the integration tests.

``topology`` is shared by the tests of a module, once on SQLite and once on PostgreSQL: its tests
leave it healthy. A test that kills or breaks nodes makes its own with ``own_topology``.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.agents import Topology
from tests.support.postgres import postgres_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def _running(directory: Path, store: str) -> Iterator[Topology]:
    with ExitStack() as stack:
        urls: Callable[[str], str] | None = None
        if store == "postgresql":
            databases = {
                name: stack.enter_context(postgres_url()) for name in ("ca1", "ra1", "va1")
            }
            urls = databases.__getitem__
        yield stack.enter_context(Topology(directory, store_url=urls))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def topology(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Topology]:
    """Yield ca1, ra1 and va1, wired and healthy, on one kind of store."""
    with _running(tmp_path_factory.mktemp(request.param), request.param) as found:
        yield found


@pytest.fixture
def own_topology(
    tmp_path: Path,
) -> Callable[[str], AbstractContextManager[Topology]]:
    """Return what starts a topology of the test's own, on ``sqlite`` or ``postgresql``."""
    return lambda store="sqlite": _running(tmp_path, store)
