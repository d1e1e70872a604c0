"""A VA with one CA's signer beside one with those of 10,000 CAs: start, memory, idle, answers."""

from __future__ import annotations

import contextlib
import ssl
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from benchmarks.bench_ocsp import measure_server, ocsp_plan, posts_of
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from tests.support.agents import AUTHORITY, Topology
from tests.support.many_authorities import add_authorities
from tests.support.many_signers import add_signers
from tests.support.processes import wait_until
from tests.support.rest import http_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["SIGNERS"]

COUNT = 10_000
ASKED = 250
FEW = "Peersys, signer of 1 CA"
MANY = f"Peersys, signers of {COUNT:,} more CAs"
_START_TIMEOUT_SECONDS = 120
_TYPE = {"Content-Type": "application/ocsp-request"}


def _request(certificate: bytes, issuer: bytes) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(certificate),
        x509.load_der_x509_certificate(issuer),
        hashes.SHA1(),
    )
    return builder.build().public_bytes(Encoding.DER)


class _Validation:
    """A VA, and what is asked of it: about a certificate (before its issuer's) of each CA."""

    def __init__(self, topology: Topology, chains: Mapping[str, tuple[bytes, bytes]]) -> None:
        self.topology = topology
        self.address = topology.va.listen["status"]
        self.requests = {name: _request(*chain) for name, chain in chains.items()}

    def is_good(self, request: bytes) -> bool:
        """Whether the VA says so."""
        try:
            status, _, der = http_request(
                self.address, "POST", "/ocsp", body=request, headers=_TYPE
            )
        except OSError:
            return False
        answer = ocsp.load_der_ocsp_response(der) if status == 200 else None
        return (
            answer is not None
            and answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
            and answer.certificate_status is ocsp.OCSPCertStatus.GOOD
        )

    def ask_all(self) -> list[float]:
        """Ask about each; return how many milliseconds each first answer took.

        Raises RuntimeError for an answer that isn't good, and for a CRL that isn't served.
        """
        taken = []
        for name, request in self.requests.items():
            begun = time.perf_counter()
            if not self.is_good(request):
                raise RuntimeError(f"the VA doesn't say that {name}'s certificate is good")
            taken.append(1000 * (time.perf_counter() - begun))
            if http_request(self.address, "GET", f"/crl/{name}.crl")[0] != 200:
                raise RuntimeError(f"the VA has no CRL of {name}")
        return taken


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, count in ((FEW, 0), (MANY, COUNT)):
            place = settings.directory / f"signers-{count}"
            cpus = {"va1": settings.server_cpus}
            topology = stack.enter_context(Topology(place, cpus=cpus))
            chains = _add_signers(topology, count) if count else _chain_of_one(topology)
            measure = partial(_measure, _Validation(topology, chains), settings)
            contestants.append(Contestant(name=name, measure=measure))
        yield contestants


def _chain_of_one(topology: Topology) -> dict[str, tuple[bytes, bytes]]:
    """Return the certificate of va1's signer, and its CA's."""
    ca, va = topology.ca.admin, topology.va.admin
    issuer = ca.state("certification_authorities", AUTHORITY)["certificate"]
    serial = va.state("signers", AUTHORITY)["serial"]
    signer = ca.get(f"/v1/certificates/{AUTHORITY}/{serial}")["certificate"]
    return {AUTHORITY: (ssl.PEM_cert_to_DER_cert(signer), ssl.PEM_cert_to_DER_cert(issuer))}


def _add_signers(topology: Topology, count: int) -> dict[str, tuple[bytes, bytes]]:
    """Add CAs to ca1, and to va1 what it knows of them, with a signer of its own for each. Return
    the certificates of some of the signers, and of their CAs.
    """
    for agent in (topology.ca, topology.va):
        agent.stop()
    add_authorities(topology.ca, range(count), issuer="root")
    chains = add_signers(topology.va, topology.ca, range(count))
    names = sorted(chains)[:: max(1, count // ASKED)]
    return {name: chains[name] for name in names}


def _measure(validation: _Validation, settings: RunSettings) -> Reading:
    """Start the VA anew, look at it, leave it alone, ask it of each CA, load it."""
    va = validation.topology.va
    va.stop()
    begun = time.monotonic()
    va.launch(cpus=settings.server_cpus)
    va.wait_ready(timeout_seconds=_START_TIMEOUT_SECONDS)
    wait_until(
        partial(validation.is_good, next(iter(validation.requests.values()))),
        timeout_seconds=_START_TIMEOUT_SECONDS,
        what="the VA answers",
    )
    detail = {
        "start_seconds": time.monotonic() - begun,
        "resident_mib": va.running.resident_kib() / 1024,
    }
    used, begun = va.running.cpu_seconds(), time.monotonic()
    time.sleep(settings.seconds)
    detail["idle_cpu_share"] = (va.running.cpu_seconds() - used) / (time.monotonic() - begun)
    begun = time.monotonic()
    va.admin.get("/v1/status")
    detail["status_seconds"] = time.monotonic() - begun
    taken = validation.ask_all()
    detail["first_answer_ms"] = statistics.median(taken)
    detail["slowest_first_ms"] = max(taken)
    detail["resident_asked_mib"] = va.running.resident_kib() / 1024
    posts = posts_of("/ocsp", list(validation.requests.values()))
    loaded = measure_server(
        va.running, ocsp_plan(settings, "signers", f"http://{validation.address}", posts)
    )
    return Reading(loaded.value, {**loaded.detail, **detail})


SIGNERS = Benchmark(
    name="signers",
    title="Many CAs at one VA",
    unit="answers/s",
    method=(
        f"A VA with a signer for one CA, and one with signers for {COUNT:,} more, all published to "
        "it with their CRLs. Each round starts the VA (start_seconds until its admin API and an "
        "OCSP request are answered), leaves it alone (idle_cpu_share), asks for its status, then "
        f"for an OCSP answer and the CRL of each of {ASKED} CAs (first_answer_ms and "
        "slowest_first_ms: key, signer and answer made for the first time; resident_asked_mib: "
        "after them), and last for the same answers as in OCSP from the cache."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=MANY, factor=5, at_most=True, key="start_seconds"),
        Bar(ours=MANY, other=FEW, factor=0.9),
    ),
    programs=("wrk", "taskset"),
)
