"""OCSP per core: answers from the cache beside nginx, CFSSL and ``openssl ocsp``; answers signed
for each request beside a bare signing loop. The server has one core, the load generator the other.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from benchmarks.fixtures import BenchAuthority, make_authority, make_csrs
from benchmarks.load import HttpRequest, LoadPlan, run_load
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from benchmarks.profile import record_profiles
from benchmarks.programs import program_version
from benchmarks.rivals import cfssl_ocsp, nginx_static, openssl_ocsp
from tests.support.agents import Topology
from tests.support.processes import ManagedProcess, wait_until
from tests.support.rest import http_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "CACHED",
    "CERTIFICATES",
    "CPU_KEY",
    "SIGNED",
    "Validation",
    "measure_server",
    "ocsp_plan",
    "posts_of",
    "running_validation",
]

POST = "Peersys, POST"
GET = "Peersys, GET"
NGINX = "nginx static file, GET"
CFSSL = "CFSSL ocspserve, POST"
OPENSSL = "openssl ocsp, POST"
POST_RSA = f"{POST}, RSA-2048 signer"
OPENSSL_RSA = f"{OPENSSL}, RSA-2048 signer"
NONCE = "Peersys, POST with nonce"
BARE = "bare cryptography loop"

CERTIFICATES = 64
DISTINCT_NONCES = 4096
CONNECTIONS = 16
CPU_KEY = "per_cpu_second"
SERVER_KEY = "server_cpu"
_TYPE = (("Content-Type", "application/ocsp-request"),)


class Validation:
    """A running topology whose VA has one core, and requests that it answers."""

    def __init__(self, topology: Topology, chains: Sequence[Sequence[x509.Certificate]]) -> None:
        self.topology = topology
        self._chains = chains
        self.address = topology.va.listen["status"]

    def request(self, number: int, *, nonce: bytes | None = None) -> bytes:
        """Return the DER request for one of the certificates."""
        leaf, issuer = self._chains[number % len(self._chains)][:2]
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)

    def answer(self, request: bytes) -> bytes:
        """Return the VA's answer. Raises RuntimeError unless it is good."""
        status, _, der = http_request(
            self.address, "POST", "/ocsp", body=request, headers=dict(_TYPE)
        )
        response = ocsp.load_der_ocsp_response(der) if status == 200 else None
        if response is None or response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise RuntimeError(f"OCSP answered {status}")
        if response.certificate_status != ocsp.OCSPCertStatus.GOOD:
            raise RuntimeError(f"OCSP says {response.certificate_status}")
        return der

    def answers_all(self) -> bool:
        """Whether every certificate is known to be good."""
        try:
            for number in range(len(self._chains)):
                self.answer(self.request(number))
        except RuntimeError:
            return False
        return True


@contextlib.contextmanager
def running_validation(
    settings: RunSettings,
    *,
    workers: int = 1,
    cpus: str | None = None,
    signer_kind: str = "ec-p256",
) -> Iterator[Validation]:
    """Yield a VA with so many workers, on the server's core unless ``cpus`` are given."""
    place = settings.directory / f"peersys-{workers}-{signer_kind}"
    pinned = {"va1": cpus or settings.server_cpus}
    options = {"workers": workers}
    with Topology(place, cpus=pinned, settings=options, signer_kind=signer_kind) as topology:
        chains = []
        for csr in make_csrs(CERTIFICATES):
            status, answer = topology.rest().enroll(csr)
            if status != 201:
                raise RuntimeError(f"enrolment answered {status}: {json.dumps(answer)}")
            pem = answer["certificate"] + answer["chain"]
            chains.append(x509.load_pem_x509_certificates(pem.encode()))
        validation = Validation(topology, chains)
        wait_until(validation.answers_all, timeout_seconds=30, what="the VA knows all")
        yield validation


def ocsp_plan(
    settings: RunSettings, name: str, url: str, requests: Sequence[HttpRequest]
) -> LoadPlan:
    """Return how to ask a server for these, over and over."""
    return LoadPlan(
        url=url,
        requests=requests,
        directory=settings.directory,
        name=name,
        connections=CONNECTIONS,
        seconds=settings.seconds,
        cpus=settings.load_cpus,
    )


def posts_of(path: str, bodies: Sequence[bytes]) -> list[HttpRequest]:
    """Return an OCSP request for each body."""
    return [HttpRequest(method="POST", path=path, headers=_TYPE, body=body) for body in bodies]


def _gets(bodies: Sequence[bytes]) -> list[HttpRequest]:
    return [
        HttpRequest(method="GET", path=f"/ocsp/{quote(base64.b64encode(body).decode(), safe='')}")
        for body in bodies
    ]


def _measure_agent(validation: Validation, plan: LoadPlan, settings: RunSettings) -> Reading:
    agent = validation.topology.va.running
    if settings.profile_directory is None:
        return measure_server(agent, plan)
    with record_profiles(
        {plan.name: agent.pid}, settings.profile_directory, seconds=settings.seconds
    ):
        return measure_server(agent, plan)


def measure_server(server: ManagedProcess, plan: LoadPlan) -> Reading:
    """Load the server; besides the rate, tell how many answers a second of its CPU time makes, and
    how much of a core it used: near 1 the server was measured, whatever the generator used.

    Answers per second of CPU time hardly move when something else takes the core away for a while.
    """
    before, started = server.cpu_seconds(), time.monotonic()
    reading = run_load(plan)
    used, passed = server.cpu_seconds() - before, time.monotonic() - started
    answers = reading.value * round(plan.seconds)
    own = {CPU_KEY: answers / used, SERVER_KEY: used / passed}
    return Reading(reading.value, {**reading.detail, **own})


@contextlib.contextmanager
def _prepare_cached(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with contextlib.ExitStack() as stack:
        validation = stack.enter_context(running_validation(settings))
        requests = [validation.request(number) for number in range(CERTIFICATES)]
        answers = [validation.answer(request) for request in requests]
        yield [
            _ours(POST, validation, posts_of("/ocsp", requests), settings),
            _ours(GET, validation, _gets(requests), settings),
            *_rivals(stack, settings, requests, answers),
            *_with_rsa(stack, settings),
        ]


def _ours(
    name: str, validation: Validation, requests: Sequence[HttpRequest], settings: RunSettings
) -> Contestant:
    file = name.lower().replace(" ", "-").replace(",", "")
    plan = ocsp_plan(settings, file, f"http://{validation.address}", requests)
    return Contestant(name=name, measure=partial(_measure_agent, validation, plan, settings))


def _with_rsa(stack: contextlib.ExitStack, settings: RunSettings) -> list[Contestant]:
    """Return what stands beside one another with the signer's key that most PKIs have."""
    validation = stack.enter_context(running_validation(settings, signer_kind="rsa-2048"))
    requests = [validation.request(number) for number in range(CERTIFICATES)]
    key = rsa.generate_private_key(65537, 2048)
    return [
        _ours(POST_RSA, validation, posts_of("/ocsp", requests), settings),
        _openssl(OPENSSL_RSA, make_authority(leaves=CERTIFICATES, signer_key=key), settings),
    ]


def _rivals(
    stack: contextlib.ExitStack,
    settings: RunSettings,
    requests: Sequence[bytes],
    answers: Sequence[bytes],
) -> list[Contestant]:
    files = {"answer.der": answers[0]}
    nginx = stack.enter_context(
        nginx_static(settings.directory / "nginx", files, cpus=settings.server_cpus)
    )
    cfssl = stack.enter_context(
        cfssl_ocsp(settings.directory / "cfssl", answers, cpus=settings.server_cpus)
    )
    posts = posts_of("/", requests)
    static = [HttpRequest(method="GET", path="/answer.der")]
    return [
        Contestant(
            name=NGINX,
            measure=partial(
                measure_server, nginx.process, ocsp_plan(settings, "nginx", nginx.url, static)
            ),
            version=program_version("nginx"),
        ),
        Contestant(
            name=CFSSL,
            measure=partial(
                measure_server, cfssl.process, ocsp_plan(settings, "cfssl", cfssl.url, posts)
            ),
            version=program_version("cfssl"),
        ),
        _openssl(OPENSSL, make_authority(leaves=CERTIFICATES), settings),
    ]


def _openssl(name: str, authority: BenchAuthority, settings: RunSettings) -> Contestant:
    return Contestant(
        name=name,
        measure=partial(_measure_openssl, authority, settings),
        version=program_version("openssl"),
    )


def _measure_openssl(authority: BenchAuthority, settings: RunSettings) -> Reading:
    # A responder for each reading: it stays for ever with a connection that the generator left.
    place = settings.directory / f"openssl-{os.urandom(4).hex()}"
    known = [(leaf.serial_number, leaf.not_valid_after_utc) for leaf in authority.leaves]
    requests = [authority.ocsp_request(leaf) for leaf in authority.leaves]
    files = authority.openssl_files()
    with openssl_ocsp(place, files=files, certificates=known, cpus=settings.server_cpus) as server:
        return measure_server(
            server.process, ocsp_plan(settings, "openssl", server.url, posts_of("/", requests))
        )


@contextlib.contextmanager
def _prepare_signed(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with running_validation(settings) as validation:
        requests = [
            validation.request(number, nonce=os.urandom(16)) for number in range(DISTINCT_NONCES)
        ]
        validation.answer(requests[0])
        plan = ocsp_plan(
            settings, "ocsp-nonce", f"http://{validation.address}", posts_of("/ocsp", requests)
        )
        yield [
            Contestant(name=NONCE, measure=partial(_measure_agent, validation, plan, settings)),
            Contestant(name=BARE, measure=partial(_measure_bare, settings)),
        ]


def _measure_bare(settings: RunSettings) -> Reading:
    run = subprocess.run(
        [
            *("taskset", "--cpu-list", settings.server_cpus),
            *(sys.executable, "-m", "benchmarks.bare_ocsp", str(settings.seconds)),
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    taken = json.loads(run.stdout)
    return Reading(taken["per_second"], {CPU_KEY: taken["per_cpu_second"]})


CACHED = Benchmark(
    name="ocsp-cached",
    title="OCSP from the cache, one core",
    unit="answers/s",
    method=(
        f"{CERTIFICATES} certificates asked for in turn over {CONNECTIONS} kept connections; the "
        "server is pinned to one core, the load generator to the other; server_cpu and "
        "generator_cpu say how much of its core each used, per_cpu_second what a second of the "
        "server's own CPU time makes, which is its figure whatever the generator can do. nginx "
        "serves one file with the same bytes, CFSSL the same answers signed beforehand; openssl "
        "ocsp signs each answer and closes each connection. The bars are held with a P-256 signer, "
        "whose signatures are the quickest to make: signing each answer costs openssl ocsp least. "
        "With an RSA-2048 signer a signature takes many times as long: these rows have no bar, "
        "since they compare keeping answers with signing them more than two servers."
    ),
    prepare=_prepare_cached,
    bars=(
        Bar(ours=POST, other=NGINX, factor=1.0),
        Bar(ours=POST, other=NGINX, factor=1.0, key=CPU_KEY),
        Bar(ours=GET, other=NGINX, factor=1.0),
        Bar(ours=POST, other=CFSSL, factor=2.5),
        Bar(ours=POST, other=OPENSSL, factor=10.0),
        Bar(ours=POST, other=OPENSSL, factor=10.0, key=CPU_KEY),
    ),
    programs=("wrk", "taskset", "nginx", "cfssl", "openssl"),
)

SIGNED = Benchmark(
    name="ocsp-signed",
    title="OCSP signed for each request, one core",
    unit="answers/s",
    method=(
        f"Requests with {DISTINCT_NONCES} distinct nonces; P-256 signer. The bare loop builds and "
        "signs the same answer with cryptography's builder: no HTTP, no lookup, no parsing."
    ),
    prepare=_prepare_signed,
    bars=(
        Bar(ours=NONCE, other=BARE, factor=0.6),
        Bar(ours=NONCE, other=BARE, factor=0.6, key=CPU_KEY),
    ),
    programs=("wrk", "taskset"),
)
