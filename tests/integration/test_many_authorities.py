"""A node with hundreds of CAs: what it does at start, for health and in a round of the CRL task is
counted, and is the same as with a few. Counts and not times: those are in ``benchmarks/``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from node_agent.config import load_settings
from node_agent.pki.issuer import Issuer
from node_agent.pki.ocsp import OcspSigner
from node_agent.pki.soft_token import SoftToken
from node_agent.service import Node
from node_agent.store.prepared import Prepared
from node_agent.store.reader import StoreReader
from tests.support.many_authorities import add_authorities, authority_name
from tests.support.many_signers import add_signers
from tests.support.node_process import Agent
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

FEW, MANY = 10, 500


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent that has a root CA and was stopped."""
    agent = Agent(tmp_path / "ca1", "ca1")
    agent.start()
    root = {"name": "root", "kind": "root", "subject": "CN=Root"}
    agent.admin.apply(certification_authorities=[root])
    agent.stop()
    return agent


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the store was asked and a CA was loaded."""
    counts: Counter[str] = Counter()

    def count(owner: type, name: str, what: str) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counts[what] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    count(StoreReader, "_with_connection", "reads")
    count(Prepared, "first", "reads")
    count(Issuer, "__init__", "loaded CAs")
    count(OcspSigner, "__init__", "loaded signers")
    count(SoftToken, "open", "opened keys")
    return counts


def test_start_health_and_status_cost_the_same_with_hundreds_of_cas(
    agent: Agent, counted: Counter[str]
) -> None:
    add_authorities(agent, range(FEW), issuer="root")
    with_few = asyncio.run(_measure(agent, counted))
    add_authorities(agent, range(FEW, MANY), issuer="root")
    with_many = asyncio.run(_measure(agent, counted))
    # The tasks of a node run side by side: a read or two may come before or after the look.
    assert with_many["reads"] <= with_few["reads"] + 3
    assert with_many["loaded CAs"] == with_few["loaded CAs"] == 0


def test_a_va_starts_alike_with_the_signers_of_hundreds_of_cas(
    agent: Agent, counted: Counter[str], tmp_path: Path
) -> None:
    va = Agent(tmp_path / "va1", "va1")
    va.start()
    va.stop()
    add_authorities(agent, range(MANY), issuer="root")
    add_signers(va, agent, range(FEW))
    with_few = asyncio.run(_measure(va, counted))
    add_signers(va, agent, range(FEW, MANY))
    with_many = asyncio.run(_measure(va, counted))
    assert with_many["reads"] <= with_few["reads"] + 3
    assert with_many["loaded signers"] == with_few["loaded signers"] == 0
    # One, to find out whether the passphrase is right.
    assert with_many["opened keys"] == with_few["opened keys"] == 1


def test_ca_list_is_paged(agent: Agent) -> None:
    add_authorities(agent, range(FEW), issuer="root")
    agent.start()
    try:
        path = "/v1/objects/certification_authorities"
        first = agent.admin.get(path, limit=4)
        names = [view["spec"]["name"] for view in first]
        assert names == [authority_name(number) for number in range(4)]
        rest = agent.admin.get(path, limit=100, after=names[-1])
        assert [view["spec"]["name"] for view in rest][-2:] == [authority_name(FEW - 1), "root"]
        assert len(agent.admin.get(path)) == len(first) + len(rest) == FEW + 1
    finally:
        agent.stop()


async def _measure(agent: Agent, counts: Counter[str]) -> Counter[str]:
    """Return what a start, a look at the node and the first round of CRLs cost."""
    counts.clear()
    node = Node(load_settings(agent.config_path))
    await node.open()
    stop = asyncio.Event()
    serving = asyncio.create_task(node.serve(stop))
    try:
        await asyncio.to_thread(
            wait_until, agent.admin.is_healthy, timeout_seconds=30, what="the node answers"
        )
        report = await node.status()
        node.metrics()
    finally:
        stop.set()
        await serving
        await node.close()
    assert report.health == "ok"
    assert len(report.authorities) >= FEW
    return Counter(counts)
