"""A partition between a CA and its RA heals: how long until what waited is done."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import make_csrs
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from node_agent.config import parse_address
from tests.support.agents import Topology
from tests.support.network import Relay
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["PARTITION"]

WAITING = 16
SHORT_SECONDS = 0.3
LONG_SECONDS = 30.0
_HALF_OPEN_SECONDS = 0.1
_RETRY_SECONDS = 0.1
_TIMEOUT_SECONDS = 60
_COME_LATER = (503, 504)


def _name(seconds: float) -> str:
    return f"after {seconds:g} s apart"


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with (
        Topology(settings.directory / "partition") as topology,
        _relay(topology.ra.listen["peer"]) as (relay, on_loop),
    ):
        path = "/v1/objects/peer_connectors/ra1"
        spec = topology.ca.admin.get(path)["spec"]
        topology.ca.admin.put(path, {**spec, "address": str(relay.address)})
        wait_until(lambda: relay.accepted and _is_linked(topology), timeout_seconds=30, what="up")
        yield [
            Contestant(
                name=_name(seconds), measure=partial(_measure, topology, relay, on_loop, seconds)
            )
            for seconds in (SHORT_SECONDS, LONG_SECONDS)
        ]


@contextlib.contextmanager
def _relay(target: str) -> Iterator[tuple[Relay, Callable[[Callable[[], Any]], None]]]:
    """Yield a relay in a thread of its own, and what runs something on its loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=30)

    async def do(action: Callable[[], Any]) -> None:
        action()

    relay = Relay(parse_address(target))
    try:
        run(relay.__aenter__())
        yield relay, lambda action: run(do(action))
        run(relay.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _is_linked(topology: Topology) -> bool:
    peers = topology.ca.admin.get("/v1/peers")
    return any(peer["connector"] == "ra1" and peer["state"] == "up" for peer in peers)


def _measure(
    topology: Topology,
    relay: Relay,
    on_loop: Callable[[Callable[[], Any]], None],
    seconds: float,
) -> Reading:
    """Part the two in the middle of requests, first without a word, then by resets; heal."""
    wait_until(lambda: _is_linked(topology), timeout_seconds=30, what="the CA has dialled")
    on_loop(relay.swallow)
    parted = time.monotonic()
    with ThreadPoolExecutor(WAITING) as clients:
        waiting = [clients.submit(_enrol, topology, csr) for csr in make_csrs(WAITING)]
        _sleep_until(parted + _HALF_OPEN_SECONDS)
        on_loop(lambda: _refuse(relay))
        _sleep_until(parted + seconds)
        if any(client.done() for client in waiting):
            raise RuntimeError("a request was answered through a parted network")
        on_loop(lambda: _heal(relay))
        healed = time.monotonic()
        done = [client.result() for client in waiting]
    return Reading(
        max(at for at, _ in done) - healed,
        {
            "first_seconds": min(at for at, _ in done) - healed,
            "told_to_come_later": sum(refused for _, refused in done),
        },
    )


def _refuse(relay: Relay) -> None:
    relay.refuses = True
    relay.cut()


def _heal(relay: Relay) -> None:
    relay.refuses = False
    relay.resume()


def _enrol(topology: Topology, csr: str) -> tuple[float, int]:
    """Return when a certificate came, and how many times the RA said to come later."""
    refused, request_id, client = 0, uuid.uuid4(), topology.rest()
    deadline = time.monotonic() + LONG_SECONDS + _TIMEOUT_SECONDS
    while True:
        status, answer = client.enroll(csr, request_id=request_id)
        if status == 201:
            return time.monotonic(), refused
        if status not in _COME_LATER or time.monotonic() > deadline:
            raise RuntimeError(f"enrolment answered {status}: {answer}")
        refused += 1
        time.sleep(_RETRY_SECONDS)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


PARTITION = Benchmark(
    name="partition",
    title="A partition that heals",
    unit="s",
    method=(
        f"{WAITING} clients ask the RA for a certificate each while nothing passes between it and "
        f"the CA: for {_HALF_OPEN_SECONDS:g} s what is sent vanishes, then connections are reset "
        "and new ones refused. Timed is from the moment when they pass again until the last of "
        "the clients has its certificate; first_seconds until the first has. Who is told to come "
        f"later asks again after {_RETRY_SECONDS:g} s, with the same request id."
    ),
    prepare=_prepare,
    bars=tuple(
        Bar(ours=_name(seconds), factor=2, at_most=True)
        for seconds in (SHORT_SECONDS, LONG_SECONDS)
    ),
)
