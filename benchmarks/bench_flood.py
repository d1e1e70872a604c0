"""An honest tenant's latency at a proxy, alone and beside a hostile tenant that floods it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from benchmarks.fixtures import make_csrs
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from tests.support.chains import Chain
from tests.support.hostile_node import certified_holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node_agent.net import IdentityHolder

__all__ = ["FLOOD"]

ALONE = "Peersys, status through a proxy"
BESIDE = "Peersys, the same beside a flood"
# How long until the flood is in full swing: it has its credits in the first round trip.
_SETTLING_SECONDS = 1.0


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with Chain(
        settings.directory / "flood",
        cas={"ca1": ("issuing", "other")},
        proxies=["inner"],
        behind={"hostile": ("issuing",), "honest": ("other",)},
        dials=[("ca1", "inner"), ("hostile", "inner"), ("honest", "inner")],
    ) as chain:
        holder = certified_holder(chain["ca1"], chain["hostile"].identity)
        chain["hostile"].stop()
        plan = _plan(chain, settings)
        yield [
            Contestant(name=ALONE, measure=partial(_latency, plan)),
            Contestant(name=BESIDE, measure=partial(_beside, chain, holder, plan)),
        ]


def _plan(chain: Chain, settings: RunSettings) -> LoadPlan:
    (csr,) = make_csrs(1)
    status, answer = chain.rest("honest").enroll(csr, authority="other")
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {answer}")
    return LoadPlan(
        url=f"https://{chain['honest'].listen['rest']}",
        requests=[
            HttpRequest(
                method="GET",
                path=f"/v1/certificates/other/{answer['serial']}",
                headers=(("Authorization", f"Bearer {chain.token}"),),
            )
        ],
        directory=settings.directory,
        name="peersys-flood",
        connections=1,
        seconds=settings.seconds,
    )


def _latency(plan: LoadPlan) -> Reading:
    taken = run_load(plan)
    return Reading(taken.detail["p50_ms"], {"p99_ms": taken.detail["p99_ms"]})


def _beside(chain: Chain, holder: IdentityHolder, plan: LoadPlan) -> Reading:
    with _flooding(chain, holder):
        time.sleep(_SETTLING_SECONDS)
        return _latency(plan)


@contextlib.contextmanager
def _flooding(chain: Chain, holder: IdentityHolder) -> Iterator[None]:
    flood = subprocess.Popen([sys.executable, "-m", "benchmarks.flood"], stdin=subprocess.PIPE)
    try:
        assert flood.stdin is not None
        flood.stdin.write(json.dumps(_given(chain, holder)).encode())
        flood.stdin.close()
        yield
    finally:
        flood.kill()
        flood.wait()


def _given(chain: Chain, holder: IdentityHolder) -> dict[str, str]:
    current, pem = holder.current, serialization.Encoding.PEM
    key = current.private_key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "private_key": key.decode(),
        "chain": "".join(item.public_bytes(pem).decode() for item in current.chain),
        "trust_anchors": "".join(item.public_bytes(pem).decode() for item in current.trust_anchors),
        "address": chain["inner"].listen["peer"],
        "peer": chain["inner"].identity,
        "authority": "other",
    }


FLOOD = Benchmark(
    name="flood",
    title="An honest tenant beside a hostile one",
    unit="p50 ms",
    method=(
        "One connection asks an RA for a certificate's status, one request after the other; the RA "
        "asks a CA through a proxy. Beside it, another tenant's taken-over RA asks the proxy for "
        "what it isn't granted, over as many links as it may have, with all of its credits at all "
        "times. Agents, load and flood share "
        "all cores."
    ),
    prepare=_prepare,
    bars=(Bar(ours=BESIDE, other=ALONE, factor=2.0, at_most=True),),
    programs=("wrk",),
)
