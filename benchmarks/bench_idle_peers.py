"""A thousand RAs linked with one CA, at which nobody enrols: the CA's CPU time, and its memory."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from tests.support.agents import Topology, allow
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["IDLE_PEERS"]

PEERS = 1000
BARE = "links alone"
ASKING = "RAs that refresh their catalogue"
# Two keep-alives of each link, and one catalogue of each RA: in less they come by chance.
_LEAST_SECONDS = 30.0
_SETTLING_SECONDS = 2.0
_LINKING_SECONDS = 180
_OPEN_FILES = 16_384


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    _allow_open_files()
    with (
        Topology(settings.directory / "idle") as topology,
        _idle_peers(topology.ca.directory) as (process, peers),
    ):
        before = topology.ca.running.resident_kib()
        _link(topology, peers)
        each = (topology.ca.running.resident_kib() - before) / PEERS
        yield [
            Contestant(
                name=name, measure=partial(_measure, topology, process, order, each, settings)
            )
            for name, order in ((BARE, "rest"), (ASKING, "ask"))
        ]


def _allow_open_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))


@contextlib.contextmanager
def _idle_peers(
    directory: Path,
) -> Iterator[tuple[subprocess.Popen[str], list[tuple[str, str]]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.idle_peers", str(directory), str(PEERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def _link(topology: Topology, peers: Sequence[tuple[str, str]]) -> None:
    """Grant the RAs what RAs are granted, have the CA dial them, and wait for every link."""
    admin = topology.ca.admin
    role = {
        "name": "idle",
        "members": [identity for identity, _ in peers],
        "rules": allow(
            "/peer/incoming", "/ra/enroll", "/ca/issuing", "/profile/server", "/protocol/rest"
        ),
    }
    connectors = [
        {"name": f"idle{number}", "address": address, "peer": identity}
        for number, (identity, address) in enumerate(peers)
    ]
    admin.apply(peer_roles=[role], peer_connectors=connectors)

    def are_up() -> bool:
        states = [peer["state"] for peer in admin.get("/v1/peers") if peer["connector"]]
        return states.count("up") == PEERS + 2

    wait_until(are_up, timeout_seconds=_LINKING_SECONDS, what="all RAs are linked")


def _measure(
    topology: Topology,
    process: subprocess.Popen[str],
    order: str,
    kib_each: float,
    settings: RunSettings,
) -> Reading:
    answered, seconds = _tell(process, order), max(settings.seconds, _LEAST_SECONDS)
    time.sleep(_SETTLING_SECONDS)
    used, begun = topology.ca.running.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    share = (topology.ca.running.cpu_seconds() - used) / passed
    asked = _tell(process, "rest") - answered
    return Reading(
        share * 100,
        {"kib_per_link": kib_each, "catalogues_per_second": asked / (_SETTLING_SECONDS + passed)},
    )


def _tell(process: subprocess.Popen[str], order: str) -> int:
    """Pass on what the RAs shall do; return how many catalogues they got so far."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{order}\n")
    process.stdin.flush()
    answer: Any = json.loads(process.stdout.readline())
    return int(answer)


IDLE_PEERS = Benchmark(
    name="idle-peers",
    title=f"{PEERS:,} RAs at rest",
    unit="% of a core",
    method=(
        f"A CA dials {PEERS:,} RAs, each with a connector and a certificate of its own; together "
        "they are one process beside the CA. Measured is the CPU time of the CA while nobody "
        "enrols: with links that say no more than that they live, and with RAs that ask for the "
        "catalogue every 30 s, as each does. kib_per_link is what its resident memory grew by, "
        "connectors and pools included, when the links were made."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=ASKING, factor=3, at_most=True),
        Bar(ours=ASKING, factor=150, at_most=True, key="kib_per_link"),
    ),
)
