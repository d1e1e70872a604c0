"""A VA compared with its CA and put right: a million certificates, of which few or none differ."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from node_agent.store import open_store
from tests.support.agents import AdminClient, Agent, Topology
from tests.support.many_certificates import put_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["SYNC", "compare_on_demand_alone"]

ENTRIES = 1_000_000
REVOKED_EVERY = 10
DIFFERENCES = (0, 100, 1000)
_CALL_TIMEOUT_SECONDS = 600
# A tenth of the rows is revoked, and some were deleted before: enough to choose from.
_SPARE = 40


def _name(differences: int) -> str:
    return f"{differences:,} differences" if differences else "no difference"


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with Topology(settings.directory / "sync") as topology:
        authority_id = topology.ca.admin.state("certification_authorities", "issuing")[
            "authority_id"
        ]
        compare_on_demand_alone(topology)
        for agent in (topology.ca, topology.va):
            agent.stop()
            asyncio.run(_fill(agent, authority_id))
        for agent in (topology.ca, topology.va):
            topology.start_agent(agent)
        topology.wait_healthy(timeout_seconds=120)
        yield [
            Contestant(name=_name(count), measure=partial(_compare, topology, authority_id, count))
            for count in DIFFERENCES
        ]


def compare_on_demand_alone(topology: Topology) -> None:
    """Keep the CA from comparing and mending its VA by itself in the middle of a round."""
    path = "/v1/objects/publishers/va1"
    spec = topology.ca.admin.get(path)["spec"]
    topology.ca.admin.put(path, {**spec, "verify_seconds": 0})


async def _fill(agent: Agent, authority_id: str) -> None:
    async with open_store(f"sqlite:///{_database(agent)}") as store:
        await put_certificates(store, authority_id, ENTRIES, revoked_every=REVOKED_EVERY)


def _compare(topology: Topology, authority_id: str, differences: int) -> Reading:
    """Change rows at the VA with another program, and have the CA find and mend them."""
    if differences:
        _damage(topology.va, authority_id, differences)
    admin = AdminClient(topology.ca.admin.socket_path, timeout_seconds=_CALL_TIMEOUT_SECONDS)
    answer = admin.post("/v1/publishers/va1/verification", {"repair": differences > 0})
    (found,) = (one for one in answer["authorities"] if one["authority"] == "issuing")
    _check(found, differences)
    return Reading(answer["seconds"], {"exchanges": answer["exchanges"]})


def _check(found: dict[str, Any], differences: int) -> None:
    counted = {name: found[name] for name in ("missing", "changed", "surplus", "repaired")}
    half = differences // 2
    if counted != {"missing": half, "changed": half, "surplus": 0, "repaired": differences}:
        raise RuntimeError(f"of {differences} differences were found {counted}")
    if found["entries"] < ENTRIES:
        raise RuntimeError(f"only {found['entries']} entries were compared")


def _damage(agent: Agent, authority_id: str, differences: int) -> None:
    """Delete rows, and make as many revoked ones good: what an attacker would like most."""
    with contextlib.closing(sqlite3.connect(_database(agent), timeout=30)) as store, store:
        half = differences // 2
        revoked = _some_rows(store, authority_id, half, "status = 'revoked'")
        good = _some_rows(store, authority_id, half, "status = 'good'")
        store.executemany("DELETE FROM certificates WHERE id = ?", good)
        store.executemany(
            "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL,"
            " invalidity_at = NULL WHERE id = ?",
            revoked,
        )


def _some_rows(
    store: sqlite3.Connection, authority_id: str, count: int, condition: str
) -> list[tuple[int]]:
    newest = store.execute("SELECT max(id) FROM certificates").fetchone()[0]
    chosen = random.sample(range(1, newest + 1), count * _SPARE)
    marks = ",".join("?" * len(chosen))
    found: list[tuple[int]] = store.execute(
        f"SELECT id FROM certificates WHERE id IN ({marks}) AND authority_id = ? AND {condition}"
        " ORDER BY random() LIMIT ?",
        (*chosen, authority_id, count),
    ).fetchall()
    if len(found) != count:
        raise RuntimeError(f"only {len(found)} rows to change")
    return found


def _database(agent: Agent) -> Path:
    return agent.directory / "state" / "store.sqlite3"


SYNC = Benchmark(
    name="sync",
    title="Comparing and mending a VA",
    unit="s",
    method=(
        f"A CA and its VA hold {ENTRIES:,} certificates, every {REVOKED_EVERY}th of them revoked "
        "(SQLite). Before each comparison rows at the VA are changed by another program, half of "
        "them deleted, half made good that were revoked; timed is how long the CA takes to find "
        "and mend them, everything included. exchanges counts its questions to the VA, for two "
        "CAs. The digests were made once before, as each node does over time."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=_name(0), factor=1, at_most=True),
        Bar(ours=_name(100), factor=5, at_most=True),
        # Two questions for each CA, one of them about its CRLs; then one for each level, and those
        # that list and mend.
        Bar(ours=_name(0), factor=4, at_most=True, key="exchanges"),
        Bar(ours=_name(100), factor=10, at_most=True, key="exchanges"),
        Bar(ours=_name(1000), other=_name(100), factor=10, at_most=True, key="exchanges"),
    ),
)
