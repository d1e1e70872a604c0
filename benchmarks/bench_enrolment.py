"""Enrolment over the whole path: HTTPS at the RA, mutual TLS and signed envelopes to the CA, a
durable commit there, and back; beside OpenBao signing and storing with neither hop nor TLS.
"""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509

from benchmarks.fixtures import make_csrs
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from benchmarks.profile import record_profiles
from benchmarks.programs import program_version
from benchmarks.rivals import openbao
from tests.support.agents import Topology
from tests.support.postgres import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.processes import ManagedProcess

__all__ = ["ENROLMENT"]

OURS = "Peersys, RA -> CA"
POSTGRES = "Peersys, RA -> CA, PostgreSQL"
RAFT = "OpenBao pki/sign, raft"
MEMORY = "OpenBao pki/sign, in memory"

# Enough waiting requests to keep both cores busy and to let commits be shared, on either side.
CONNECTIONS = 48
DISTINCT_CSRS = 512
_CPU = "per_cpu_second"


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    csrs = make_csrs(DISTINCT_CSRS)
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, store_url in ((OURS, None), (POSTGRES, _databases(stack))):
            place = settings.directory / name.replace(" ", "-")
            topology = stack.enter_context(Topology(place, store_url=store_url))
            _check_one(topology, csrs[0])
            _leave_out_validation(topology)
            contestants.append(
                Contestant(name=name, measure=partial(_ours, topology, csrs, settings, name))
            )
        for name, storage in ((RAFT, "raft"), (MEMORY, "inmem")):
            place = settings.directory / storage
            server = stack.enter_context(openbao(place, cpus=None, storage=storage))
            plan = LoadPlan(
                url=server.url,
                requests=[server.sign_request(csr) for csr in csrs],
                directory=settings.directory,
                name=f"openbao-{storage}",
                connections=CONNECTIONS,
                seconds=settings.seconds,
            )
            measure = partial(_measure, [server.process], plan)
            contestants.append(
                Contestant(name=name, measure=measure, version=program_version("bao"))
            )
        yield contestants


def _databases(stack: contextlib.ExitStack) -> Callable[[str], str]:
    """Return what makes a fresh database for a node, on a cluster that really syncs."""
    cluster = PostgresCluster(durable=True)
    stack.callback(cluster.remove)
    cluster.start()
    return lambda name: stack.enter_context(cluster.database())


def _leave_out_validation(topology: Topology) -> None:
    """Stop the VA and all that feeds it: publishing is another benchmark."""
    for path in ("publishers/va1", "publishers/va1-management", "peer_connectors/va1"):
        topology.ca.admin.delete(f"/v1/objects/{path}")
    topology.va.stop()


def _check_one(topology: Topology, csr: str) -> None:
    status, answer = topology.rest().enroll(csr)
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {answer}")
    x509.load_pem_x509_certificate(answer["certificate"].encode())


def _ours(topology: Topology, csrs: Sequence[str], settings: RunSettings, name: str) -> Reading:
    headers = (
        ("Authorization", f"Bearer {topology.token}"),
        ("Content-Type", "application/json"),
    )
    bodies = (
        json.dumps({"authority": "issuing", "profile": "server", "csr": csr}).encode()
        for csr in csrs
    )
    plan = LoadPlan(
        url=f"https://{topology.ra.listen['rest']}",
        requests=[
            HttpRequest(method="POST", path="/v1/certificates", headers=headers, body=body)
            for body in bodies
        ],
        directory=settings.directory,
        name="peersys-enrolment",
        connections=CONNECTIONS,
        seconds=settings.seconds,
    )
    nodes = (topology.ca, topology.ra)
    # The database's own processes aren't counted, so there is no CPU figure with PostgreSQL.
    counted = [] if name == POSTGRES else [agent.running for agent in nodes]
    if settings.profile_directory is None:
        return _measure(counted, plan)
    store = "postgresql" if name == POSTGRES else "sqlite"
    processes = {f"enrolment-{store}-{agent.name}": agent.running.pid for agent in nodes}
    with record_profiles(processes, settings.profile_directory, seconds=settings.seconds):
        return _measure(counted, plan)


def _measure(servers: Sequence[ManagedProcess], plan: LoadPlan) -> Reading:
    """Load the servers; also tell what a second of their CPU time makes."""
    before = sum(server.cpu_seconds() for server in servers)
    reading = run_load(plan)
    if not servers:
        return reading
    used = sum(server.cpu_seconds() for server in servers) - before
    made = reading.value * round(plan.seconds)
    return Reading(reading.value, {**reading.detail, _CPU: made / used})


ENROLMENT = Benchmark(
    name="enrolment",
    title="Enrolment",
    unit="certificates/s",
    method=(
        f"{DISTINCT_CSRS} distinct P-256 CSRs in turn over {CONNECTIONS} kept connections. "
        "Peersys: HTTPS with an API token at the RA, signed envelopes over mutual TLS to the CA, "
        "SQLite with synchronous=FULL or PostgreSQL with its defaults. OpenBao: plain HTTP, one "
        "process, certificates stored. Load generator and servers share all cores; per_cpu_second "
        "counts the servers' CPU time alone."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=OURS, other=RAFT, factor=1.5),
        Bar(ours=OURS, other=MEMORY, factor=1.5),
        Bar(ours=OURS, other=RAFT, factor=1.5, key=_CPU),
    ),
    programs=("wrk", "bao", "postgres"),
)
