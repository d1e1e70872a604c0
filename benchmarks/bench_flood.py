"""An honest tenant's latency at a proxy, alone and beside hostile nodes that flood proxy or CA."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from benchmarks.fixtures import make_csrs
from benchmarks.flood import Flood, Key
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from node_agent.peers.operations import serial_octets
from tests.support.agents import allow
from tests.support.chains import Chain
from tests.support.hostile_node import certified_holder
from tests.support.processes import free_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["FLOOD"]

ALONE = "Peersys, status through a proxy"
DENIED = "Peersys, the same beside a flood"
MANY_LINKS = "Peersys, beside one over 64 links"
RELAYED = "Peersys, beside one of a hostile proxy"
IN_SCOPE = "Peersys, beside one of what is granted"


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with Chain(
        settings.directory / "flood",
        cas={"ca1": ("issuing", "other")},
        proxies=["inner"],
        behind={"hostile": ("issuing",), "honest": ("other",)},
        dials=[("ca1", "inner"), ("hostile", "inner"), ("honest", "inner")],
    ) as chain:
        serials = {
            tenant: _enrol(chain, tenant, authority)
            for tenant, authority in (("hostile", "issuing"), ("honest", "other"))
        }
        plan = _plan(chain, settings, serials["honest"])
        chain["hostile"].stop()
        floods = _floods(chain, serials)
        yield [
            Contestant(name=ALONE, measure=partial(_latency, plan)),
            *(
                Contestant(name=name, measure=partial(_beside, chain, flood, plan))
                for name, flood in floods.items()
            ),
        ]


def _enrol(chain: Chain, tenant: str, authority: str) -> str:
    (csr,) = make_csrs(1)
    status, answer = chain.rest(tenant).enroll(csr, authority=authority)
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {answer}")
    serial: str = answer["serial"]
    return serial


def _plan(chain: Chain, settings: RunSettings, serial: str) -> LoadPlan:
    return LoadPlan(
        url=f"https://{chain['honest'].listen['rest']}",
        requests=[
            HttpRequest(
                method="GET",
                path=f"/v1/certificates/other/{serial}",
                headers=(("Authorization", f"Bearer {chain.token}"),),
            )
        ],
        directory=settings.directory,
        name="peersys-flood",
        connections=1,
        seconds=settings.seconds,
    )


def _floods(chain: Chain, serials: dict[str, str]) -> dict[str, Flood]:
    """Return each flood by who is measured beside it."""
    tenant = Key.of(certified_holder(chain["ca1"], chain["hostile"].identity))
    serial = {name: serial_octets(int(text, 16)).hex() for name, text in serials.items()}
    denied = Flood(
        own=tenant,
        signer=tenant,
        address=chain["inner"].listen["peer"],
        peer=chain["inner"].identity,
        authority="other",
        serial=serial["honest"],
    )
    replace = msgspec.structs.replace
    return {
        DENIED: denied,
        MANY_LINKS: replace(denied, links=64),
        RELAYED: replace(denied, own=_hostile_proxy(chain), address=free_address(), listens=True),
        IN_SCOPE: replace(denied, authority="issuing", serial=serial["hostile"]),
    }


def _hostile_proxy(chain: Chain) -> Key:
    """Return the key of a second proxy, which the CA lets relay what both tenants may."""
    identity = f"spiffe://{chain['ca1'].trust_domain}/node/outer"
    rules = ("/peer/incoming", "/peer/relay", *chain.rules_for("issuing", "other"))
    role = {"name": "outer", "members": [identity], "rules": allow(*rules)}
    chain["ca1"].admin.apply(peer_roles=[role])
    return Key.of(certified_holder(chain["ca1"], identity))


def _latency(plan: LoadPlan) -> Reading:
    taken = run_load(plan)
    return Reading(taken.detail["p50_ms"], {"p99_ms": taken.detail["p99_ms"]})


def _beside(chain: Chain, flood: Flood, plan: LoadPlan) -> Reading:
    with _dialled(chain, flood), _flooding(flood):
        return _latency(plan)


@contextlib.contextmanager
def _dialled(chain: Chain, flood: Flood) -> Iterator[None]:
    """Have the CA dial a flood that listens."""
    if not flood.listens:
        yield
        return
    peer = f"spiffe://{chain['ca1'].trust_domain}/node/outer"
    connector = {"name": "outer", "address": flood.address, "peer": peer}
    chain["ca1"].admin.apply(peer_connectors=[connector])
    try:
        yield
    finally:
        chain["ca1"].admin.delete("/v1/objects/peer_connectors/outer")


@contextlib.contextmanager
def _flooding(flood: Flood) -> Iterator[None]:
    program = [sys.executable, "-m", "benchmarks.flood"]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(flood))
        process.stdin.close()
        # Links that come in are logged on the same stream.
        if not any(line.strip() == b"flooding" for line in process.stdout):
            raise RuntimeError("the flood ended before it began")
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


FLOOD = Benchmark(
    name="flood",
    title="An honest tenant beside hostile ones",
    unit="p50 ms",
    method=(
        "One connection asks an RA for a certificate's status, one request after the other; the RA "
        "asks a CA through a proxy. Beside it, another tenant's taken-over RA asks the proxy for "
        "what it isn't granted, with all of its credits at all times, over one link and over 64; a "
        "hostile proxy asks the CA for it, signed by that tenant; and the RA asks for what it is "
        "granted. Agents, load and flood share all cores."
    ),
    prepare=_prepare,
    bars=tuple(
        Bar(ours=name, other=ALONE, factor=2.0, at_most=True)
        for name in (DENIED, MANY_LINKS, RELAYED, IN_SCOPE)
    ),
    programs=("wrk",),
)
