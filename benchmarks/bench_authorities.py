"""A CA node with one issuing CA beside one with 10,000: start, memory, idle CPU, enrolment."""

from __future__ import annotations

import contextlib
import json
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.fixtures import make_csrs
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from tests.support.agents import PROFILE, Topology
from tests.support.many_authorities import add_authorities
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["AUTHORITIES"]

COUNT = 10_000
FEW = "Peersys, 1 issuing CA"
MANY = f"Peersys, {COUNT:,} more CAs"
CONNECTIONS = 24
DISTINCT_CSRS = 256
_START_TIMEOUT_SECONDS = 120


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    csrs = make_csrs(DISTINCT_CSRS)
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, count in ((FEW, 0), (MANY, COUNT)):
            topology = stack.enter_context(Topology(settings.directory / f"cas-{count}"))
            topology.va.stop()
            topology.ca.stop()
            if count:
                add_authorities(topology.ca, range(count), issuer="root", profiles=[PROFILE])
            measure = partial(_measure, topology, _plan(topology, csrs, settings), settings.seconds)
            contestants.append(Contestant(name=name, measure=measure))
        yield contestants


def _plan(topology: Topology, csrs: Sequence[str], settings: RunSettings) -> LoadPlan:
    headers = (
        ("Authorization", f"Bearer {topology.token}"),
        ("Content-Type", "application/json"),
    )
    bodies = (
        json.dumps({"authority": "issuing", "profile": PROFILE, "csr": csr}).encode()
        for csr in csrs
    )
    return LoadPlan(
        url=f"https://{topology.ra.listen['rest']}",
        requests=[
            HttpRequest(method="POST", path="/v1/certificates", headers=headers, body=body)
            for body in bodies
        ],
        directory=settings.directory,
        name="peersys-many-authorities",
        connections=CONNECTIONS,
        seconds=settings.seconds,
    )


def _measure(topology: Topology, plan: LoadPlan, seconds: float) -> Reading:
    """Start the CA, leave it alone, look at it, load it, stop it."""
    ca = topology.ca
    begun = time.monotonic()
    ca.launch()
    try:
        ca.wait_ready(timeout_seconds=_START_TIMEOUT_SECONDS)
        detail = {
            "start_seconds": time.monotonic() - begun,
            "start_cpu_seconds": ca.running.cpu_seconds(),
            "resident_mib": ca.running.resident_kib() / 1024,
        }
        _wait_linked(topology)
        used, begun = ca.running.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begun
        detail["idle_cpu_share"] = (ca.running.cpu_seconds() - used) / passed
        begun = time.monotonic()
        ca.admin.get("/v1/status")
        detail["status_seconds"] = time.monotonic() - begun
        loaded = run_load(plan)
        return Reading(loaded.value, {**loaded.detail, **detail})
    finally:
        ca.stop()


def _wait_linked(topology: Topology) -> None:
    def is_up() -> bool:
        peers = topology.ca.admin.get("/v1/peers")
        return any(peer["connector"] == "ra1" and peer["state"] == "up" for peer in peers)

    wait_until(is_up, timeout_seconds=30, what="the CA has dialled the RA")


AUTHORITIES = Benchmark(
    name="authorities",
    title="Many CAs on one node",
    unit="certificates/s",
    method=(
        f"A CA node with a Management CA, a root and one issuing CA, and one with {COUNT:,} more "
        "issuing CAs, each with a key, certificate and CRL of its own. Each round starts the node "
        "(start_seconds until its admin API answers), leaves it alone "
        f"(idle_cpu_share), asks for its status, and enrols by the RA over {CONNECTIONS} "
        "connections as in Enrolment. The VA is left out."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=MANY, other=FEW, factor=0.9),
        Bar(ours=MANY, other=FEW, factor=1.1, at_most=True, key="p50_ms"),
        Bar(ours=MANY, factor=5, at_most=True, key="start_seconds"),
    ),
    programs=("wrk",),
)
