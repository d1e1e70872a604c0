"""A VA whose store was changed behind its back, or is an old copy, heals over real links."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.openssl import CertificateFiles, make_csr
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.agents import Agent, Topology

    Start = Callable[..., AbstractContextManager[Topology]]

pytestmark = pytest.mark.timeout(180)


def store_of(agent: Agent) -> Path:
    return agent.directory / "state" / "store.sqlite3"


def by_hand(agent: Agent, statement: str, *values: object) -> None:
    """Change an agent's rows with another program, while it runs."""
    with contextlib.closing(sqlite3.connect(store_of(agent), timeout=10)) as store, store:
        assert store.execute(statement, values).rowcount > 0


def judge(topology: Topology, directory: Path, issued: dict[str, Any]) -> CertificateFiles:
    path = "/v1/objects/certification_authorities/issuing"
    state = topology.ca.admin.get(path)["state"]
    return CertificateFiles(directory, issued["certificate"], state["certificate"], state["root"])


def verify(topology: Topology, **order: bool) -> dict[str, int]:
    """Compare the VA with the CA; return what was found for the issuing CA."""
    answer = topology.ca.admin.post("/v1/publishers/va1/verification", order)
    found = next(item for item in answer["authorities"] if item["authority"] == "issuing")
    return {name: found[name] for name in ("missing", "changed", "surplus", "crls", "repaired")}


def caught_up(topology: Topology) -> bool:
    state = topology.ca.admin.get("/v1/objects/publishers/va1")["state"]
    return bool(state["state"] == "up" and state["lag_entries"] == 0)


def enrol_and_revoke(topology: Topology, directory: Path) -> list[dict[str, Any]]:
    """Return two certificates that the VA knows, the first of them revoked."""
    issued = [
        topology.rest().enroll(make_csr(directory, f"{number}.example.org"))[1]
        for number in range(2)
    ]
    assert topology.rest().revoke(issued[0]["serial"])[0] == 200
    wait_until(lambda: caught_up(topology), what="the VA knows of them")
    return issued


def test_rows_that_were_tampered_with_are_found_and_healed(
    own_topology: Start, tmp_path: Path
) -> None:
    with own_topology() as topology:
        revoked, good = enrol_and_revoke(topology, tmp_path)
        clean = {"missing": 0, "changed": 0, "surplus": 0, "crls": 0, "repaired": 0}
        assert verify(topology) == clean

        by_hand(
            topology.va,
            "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL "
            "WHERE status = 'revoked'",
        )
        serial = int(good["serial"], 16).to_bytes(20, "big")
        by_hand(topology.va, "DELETE FROM certificates WHERE serial = ?", serial)
        assert verify(topology) == {**clean, "missing": 1, "changed": 1}
        state = topology.ca.admin.get("/v1/objects/publishers/va1")["state"]
        assert state["differences"] == 2
        assert topology.ca.admin.get("/v1/status")["health"] == "degraded"

        assert verify(topology, repair=True) == {**clean, "missing": 1, "changed": 1, "repaired": 2}
        status = topology.va.listen["status"]
        for certificate, word in ((revoked, "revoked"), (good, "good")):
            assert judge(topology, tmp_path, certificate).ocsp(status) == word
        assert verify(topology) == clean
        assert topology.ca.admin.get("/v1/status")["health"] == "ok"
        entries = topology.va.admin.get("/v1/audit?limit=1000")
        assert [entry["chain"] for entry in entries if entry["action"] == "publish.repair"] == [
            "ca1"
        ]


def test_a_va_from_an_old_copy_heals_by_itself(own_topology: Start, tmp_path: Path) -> None:
    with own_topology() as topology:
        topology.va.stop()
        copy = tmp_path / "old.sqlite3"
        shutil.copy(store_of(topology.va), copy)
        topology.start_agent(topology.va)
        revoked, good = enrol_and_revoke(topology, tmp_path)

        topology.va.stop()
        for name in ("-wal", "-shm"):
            store_of(topology.va).with_name(f"store.sqlite3{name}").unlink(missing_ok=True)
        shutil.copy(copy, store_of(topology.va))
        topology.start_agent(topology.va)
        status = topology.va.listen["status"]
        for certificate, word in ((revoked, "revoked"), (good, "good")):
            wait_until(
                lambda certificate=certificate, word=word: (  # type: ignore[misc]
                    judge(topology, tmp_path, certificate).ocsp(status) == word
                ),
                timeout_seconds=30,
                what=f"the VA says {word} again",
            )
        wait_until(lambda: caught_up(topology), timeout_seconds=30, what="all is there again")
        assert verify(topology)["missing"] == 0
