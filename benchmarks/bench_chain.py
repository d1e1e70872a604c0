"""Enrolment through an RA proxy, beside enrolment at an RA that the CA dials."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.fixtures import make_csrs
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, RunSettings
from tests.support.agents import Topology
from tests.support.chains import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.rest import RestClient

__all__ = ["CHAIN"]

DIRECT = "Peersys, RA -> CA"
PROXIED = "Peersys, RA -> proxy -> CA"
# As many as in the benchmark of enrolment.
CONNECTIONS = 48
DISTINCT_CSRS = 512


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    csrs = make_csrs(DISTINCT_CSRS)
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(Topology(settings.directory / "direct"))
        direct.va.stop()
        chain = stack.enter_context(
            Chain(
                settings.directory / "chain",
                cas={"ca1": ("issuing",)},
                proxies=["proxy1"],
                behind={"tenant1": ("issuing",)},
                dials=[("ca1", "proxy1"), ("tenant1", "proxy1")],
            )
        )
        places = {
            DIRECT: (direct.ra.listen["rest"], direct.token, direct.rest()),
            PROXIED: (chain["tenant1"].listen["rest"], chain.token, chain.rest("tenant1")),
        }
        contestants = []
        for number, (name, (address, token, client)) in enumerate(places.items()):
            _check_one(client, csrs[0])
            plan = _plan(settings, address, token, csrs, name=f"chain-{number}")
            contestants.append(Contestant(name=name, measure=partial(run_load, plan)))
        yield contestants


def _check_one(client: RestClient, csr: str) -> None:
    status, answer = client.enroll(csr)
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {answer}")


def _plan(
    settings: RunSettings, address: str, token: str, csrs: Sequence[str], *, name: str
) -> LoadPlan:
    headers = (("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"))
    bodies = (
        json.dumps({"authority": "issuing", "profile": "server", "csr": csr}).encode()
        for csr in csrs
    )
    return LoadPlan(
        url=f"https://{address}",
        requests=[
            HttpRequest(method="POST", path="/v1/certificates", headers=headers, body=body)
            for body in bodies
        ],
        directory=settings.directory,
        name=name,
        connections=CONNECTIONS,
        seconds=settings.seconds,
    )


CHAIN = Benchmark(
    name="chain",
    title="Enrolment through a proxy",
    unit="certificates/s",
    method=(
        f"{CONNECTIONS} connections enrol over REST with {DISTINCT_CSRS} CSRs by turns, every "
        "request a certificate of its own. The RA's CA dials it, or both dial a proxy, which "
        "verifies, decides and logs each request before it passes it on. Agents and load share "
        "all cores: with a proxy, three agents do instead of two."
    ),
    prepare=_prepare,
    bars=(Bar(ours=PROXIED, other=DIRECT, factor=0.6),),
    programs=("wrk",),
)
