"""Servers are tested on the event loop they run on, connections on Python's own as well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICIES = {"asyncio": asyncio.DefaultEventLoopPolicy, "uvloop": uvloop.EventLoopPolicy}


@pytest.fixture(autouse=True)
def loop_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test's loops on uvloop; parametrize indirectly with another kind."""
    kind: str = getattr(request, "param", "uvloop")
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_POLICIES[kind]())
    yield kind
    asyncio.set_event_loop_policy(before)
