"""Stored, but not at work: a busy port, an object from before a rule. The node runs, says so, tries
again, and is mended over its admin socket.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import urllib.request
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node_agent.config import load_settings
from node_agent.objects import NodeSpecification
from node_agent.service import Node
from node_agent.store import Store
from node_agent.web.backends import LocalCaller
from tests.support.admin import AdminError
from tests.support.cheap_scrypt import cheap_scrypt
from tests.support.event_loop import run
from tests.support.node_process import Agent
from tests.support.pki import ThrowawayAuthority
from tests.support.processes import free_address, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANAGEMENT = {"name": "management", "kind": "management", "subject": "CN=Management"}
OBJECTS: dict[str, Any] = {
    "authenticators": [
        {"name": "peer"},
        {"name": "rest", "purpose": "server", "dns_names": ["localhost"]},
    ],
    "certification_authorities": [MANAGEMENT],
}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent with ports and a Management CA of its own; nothing is certified yet."""
    ports = {port: free_address() for port in ("peer", "rest", "metrics")}
    agent = Agent(tmp_path, "node1", listen=ports)
    agent.start()
    try:
        agent.admin.apply(**OBJECTS)
        yield agent
    except BaseException as error:
        error.add_note(agent.explain_failure())
        raise
    finally:
        agent.stop()


@contextlib.contextmanager
def taken(address: str) -> Iterator[None]:
    """Have somebody else listen at ``address``."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        yield


def is_open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


def reasons(agent: Agent) -> list[str]:
    found: list[str] = agent.admin.get("/v1/status")["reasons"]
    return found


def test_the_next_run_opens_a_port_that_was_busy(agent: Agent) -> None:
    with taken(agent.listen["peer"]):
        with pytest.raises(AdminError, match="peer port") as refused:
            agent.certify(agent)
        assert refused.value.status == 503
        assert refused.value.problem["type"].endswith(":not-at-work")
        assert any("peer port not at work" in reason for reason in reasons(agent))
        with pytest.raises(AdminError, match="peer port"):
            agent.admin.apply(**OBJECTS)
        # What has nothing to do with the port isn't held up by it.
        agent.admin.apply(peer_roles=[{"name": "nobody"}])
    assert agent.admin.apply(**OBJECTS)["changed"] is False
    assert is_open(agent.listen["peer"])
    assert reasons(agent) == []


def test_a_port_that_was_busy_opens_by_itself_once_it_is_free(agent: Agent) -> None:
    with taken(agent.listen["rest"]), pytest.raises(AdminError, match="REST port"):
        agent.certify(agent, "rest")
    wait_until(
        lambda: is_open(agent.listen["rest"]) and not reasons(agent),
        timeout_seconds=20,
        what="the REST port is open",
    )


def test_a_node_starts_with_objects_that_it_cannot_use_and_is_mended(agent: Agent) -> None:
    agent.certify(agent)
    agent.certify(agent, "rest")
    peer = {"peer": "spiffe://pki.example.org/node/other", "enabled": False}
    agent.admin.apply(
        authenticators=[{"name": "second"}],
        peer_connectors=[{"name": name, "address": "127.0.0.1:1", **peer} for name in "ab"],
        requesters=[{"name": "tester", "token_sha256": "ab" * 32}],
    )
    agent.certify(agent, "second")
    agent.stop()
    stranger = ThrowawayAuthority().crl().public_bytes(Encoding.PEM).decode()
    mended = {
        "peer_connectors/a": _store(agent, "peer_connectors", "a", max_parallel_requests=2),
        "authenticators/second": _store(agent, "authenticators", "second", crls=[stranger]),
        "requesters/tester": _store(agent, "requesters", "tester", client_trust_anchors=["PEM"]),
    }
    agent.start()
    told = reasons(agent)
    assert len(told) == 3
    for what in mended:
        assert any(reason.startswith(what.replace("/", ".")) for reason in told), told
    assert is_open(agent.listen["peer"])
    assert is_open(agent.listen["rest"])
    for what, spec in mended.items():
        agent.admin.put(f"/v1/objects/{what}", spec)
        told = [reason for reason in told if not reason.startswith(what.replace("/", "."))]
        assert reasons(agent) == told


def test_a_node_whose_crl_stopped_coming_says_so(agent: Agent) -> None:
    agent.certify(agent)
    spec = agent.admin.get("/v1/objects/authenticators/peer")["spec"]
    (crl,) = spec["crls"]
    end = x509.load_pem_x509_crl(crl.encode()).next_update_utc
    assert end is not None
    assert _crl_end(agent) == end.timestamp()
    authority = ThrowawayAuthority("Another Management CA")
    overdue = authority.crl(next_update_seconds=-30)
    anchor = authority.certificate.public_bytes(Encoding.PEM).decode()
    spec["trust_anchors"].append(anchor)
    spec["crls"].append(overdue.public_bytes(Encoding.PEM).decode())
    agent.admin.put("/v1/objects/authenticators/peer", spec)
    (told,) = reasons(agent)
    assert "authenticators.peer: a CRL in force should have been replaced by" in told
    assert _crl_end(agent) < end.timestamp()


def test_a_plan_that_meets_a_defect_leaves_no_key_behind(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("a defect")

    async def tokens_after() -> tuple[list[str], list[str]]:
        node = Node(load_settings(agent.config_path))
        await node.open()
        try:
            tokens, before = node._base.tokens, node._base.tokens.labels("default")
            monkeypatch.setattr(Store, "apply_plan", fail)
            wanted = msgspec.convert({"authenticators": [{"name": "x"}]}, NodeSpecification)
            with pytest.raises(RuntimeError, match="a defect"):
                await node._administration.management.apply_node(
                    wanted, dry_run=False, caller=LocalCaller(uid=0, gid=0, pid=1)
                )
            return before, tokens.labels("default")
        finally:
            await node.close()

    agent.stop()
    with cheap_scrypt():
        before, after = run(tokens_after())
    assert after == before


def _crl_end(agent: Agent) -> float:
    name = 'peersys_peer_crl_next_update_seconds{object="authenticators.peer"} '
    with urllib.request.urlopen(f"http://{agent.listen['metrics']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = (line.removeprefix(name) for line in lines if line.startswith(name))
    return float(value)


def _store(agent: Agent, kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """Write into the store what no plan accepts; return what was there."""
    with contextlib.closing(sqlite3.connect(agent.directory / "state/store.sqlite3")) as database:
        where = "WHERE kind = ? AND name = ?"
        row = database.execute(f"SELECT spec FROM objects {where}", (kind, name)).fetchone()
        spec: dict[str, Any] = json.loads(row[0])
        broken = json.dumps({**spec, **fields}).encode()
        database.execute(f"UPDATE objects SET spec = ? {where}", (broken, kind, name))
        database.commit()
    return spec
