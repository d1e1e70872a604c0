"""OCSP by the agent itself beside OCSP by status workers, on all cores: what a worker more brings,
and what its questions to the agent cost.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.bench_ocsp import (
    CERTIFICATES,
    CPU_KEY,
    measure_server,
    ocsp_plan,
    posts_of,
    running_validation,
)
from benchmarks.measure import Bar, Benchmark, Contestant, RunSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["WORKERS"]

ALONE_KEPT = "the agent itself, kept"
ALONE_NONCE = "the agent itself, nonce"
WORKERS_KEPT = "status workers, kept"
WORKERS_NONCE = "status workers, nonce"

DISTINCT_NONCES = 4096


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with contextlib.ExitStack() as stack:
        yield [
            *_contestants(stack, settings, 1, ALONE_KEPT, ALONE_NONCE),
            *_contestants(stack, settings, settings.workers, WORKERS_KEPT, WORKERS_NONCE),
        ]


def _contestants(
    stack: contextlib.ExitStack, settings: RunSettings, workers: int, kept: str, nonce: str
) -> Iterator[Contestant]:
    cpus = f"0-{(os.cpu_count() or 1) - 1}"
    validation = stack.enter_context(running_validation(settings, workers=workers, cpus=cpus))
    requests = [validation.request(number) for number in range(CERTIFICATES)]
    nonces = [validation.request(n, nonce=os.urandom(16)) for n in range(DISTINCT_NONCES)]
    url = f"http://{validation.address}"
    for name, bodies in ((kept, requests), (nonce, nonces)):
        file = f"{'nonce' if name == nonce else 'kept'}-{workers}"
        plan = ocsp_plan(settings, file, url, posts_of("/ocsp", bodies))
        agent = validation.topology.va.running
        yield Contestant(name=name, measure=partial(measure_server, agent, plan))


WORKERS = Benchmark(
    name="ocsp-workers",
    title="OCSP by status workers, all cores",
    unit="answers/s",
    method=(
        "As the two before, but the VA may use every core; `--workers` (default 2) processes serve "
        "beside an agent that serves alone. per_cpu_second counts the agent and its workers. With "
        f"a nonce ({DISTINCT_NONCES} distinct ones) each answer costs a question to the agent."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=WORKERS_KEPT, other=ALONE_KEPT, factor=0.9, key=CPU_KEY),
        Bar(ours=WORKERS_NONCE, other=ALONE_NONCE, factor=0.7, key=CPU_KEY),
    ),
    programs=("wrk", "taskset"),
)
