"""A CRL of a million entries: how long a revocation takes to be in it at the CA and at a VA's
clients, how much memory that takes at both, and what OCSP clients of the VA notice of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from benchmarks.bench_sync import compare_on_demand_alone
from benchmarks.fixtures import make_csrs
from benchmarks.measure import Bar, Benchmark, Contestant, Reading, RunSettings
from node_agent.store import open_store
from tests.support.agents import Agent, Topology
from tests.support.many_certificates import put_certificates
from tests.support.processes import wait_until
from tests.support.rest import http_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = ["CRL"]

ENTRIES = 1_000_000
NAME = f"Peersys, CRL of {ENTRIES:,} entries"
_TIMEOUT_SECONDS = 120
_CSRS = 64
_ASK_EVERY_SECONDS = 0.002


@contextlib.contextmanager
def _prepare(settings: RunSettings) -> Iterator[Sequence[Contestant]]:
    with Topology(settings.directory / "crl") as topology:
        compare_on_demand_alone(topology)
        state = topology.ca.admin.state("certification_authorities", "issuing")
        topology.ca.stop()
        asyncio.run(_fill(topology.ca, state["authority_id"]))
        topology.start_agent(topology.ca)
        topology.wait_healthy(timeout_seconds=120)
        csrs = itertools.cycle(make_csrs(_CSRS))
        yield [Contestant(name=NAME, measure=partial(_measure, topology, csrs))]
        _check(topology, state["certificate"])


async def _fill(agent: Agent, authority_id: str) -> None:
    async with open_store(f"sqlite:///{agent.directory / 'state' / 'store.sqlite3'}") as store:
        await put_certificates(store, authority_id, ENTRIES)


def _check(topology: Topology, issuer: str) -> None:
    """Raise RuntimeError unless what the VA serves is a signed list of all of them."""
    _, _, der = http_request(topology.va.listen["status"], "GET", "/crl/issuing.crl")
    crl = x509.load_der_x509_crl(der)
    key = x509.load_pem_x509_certificate(issuer.encode()).public_key()
    if len(crl) <= ENTRIES or not crl.is_signature_valid(key):  # type: ignore[arg-type]
        raise RuntimeError(f"the VA serves a wrong list of {len(crl)} entries")


def _measure(topology: Topology, csrs: Iterator[str]) -> Reading:
    """Revoke one certificate, and wait for a list with it at the CA and then at the VA."""
    serial, request = _enrol(topology, next(csrs))
    number, tag = _crl_number(topology), _crl_at_va(topology)["etag"]
    memory = [PeakMemory(agent) for agent in (topology.ca, topology.va)]
    with OcspClient(topology.va.listen["status"], request) as client:
        begun = time.monotonic()
        status, answer = topology.rest().revoke(serial)
        if status != 200:
            raise RuntimeError(f"revocation answered {status}: {answer}")
        wait_until(
            lambda: _crl_number(topology) > number,
            timeout_seconds=_TIMEOUT_SECONDS,
            what="the CA has made the list anew",
        )
        made = time.monotonic() - begun
        wait_until(
            lambda: _crl_at_va(topology)["etag"] != tag,
            timeout_seconds=_TIMEOUT_SECONDS,
            what="the VA serves the new list",
        )
        served = time.monotonic() - begun
    ca_growth, va_growth = (one.growth_mib() for one in memory)
    return Reading(
        made,
        {
            "va_seconds": served,
            "ca_growth_mib": ca_growth,
            "va_growth_mib": va_growth,
            "crl_mib": int(_crl_at_va(topology)["content-length"]) / 2**20,
            "ocsp_p99_ms": client.percentile_ms(0.99),
            "ocsp_longest_ms": client.percentile_ms(1.0),
        },
    )


def _enrol(topology: Topology, csr: str) -> tuple[str, bytes]:
    """Return the serial of a new certificate, and an OCSP request for it that the VA answers."""
    status, issued = topology.rest().enroll(csr)
    if status != 201:
        raise RuntimeError(f"enrolment answered {status}: {issued}")
    pem = (issued["certificate"] + issued["chain"]).encode()
    leaf, issuer = x509.load_pem_x509_certificates(pem)[:2]
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
    request = builder.build().public_bytes(Encoding.DER)
    wait_until(
        lambda: _is_known(topology.va.listen["status"], request),
        timeout_seconds=_TIMEOUT_SECONDS,
        what="the VA knows the certificate",
    )
    return issued["serial"], request


def _is_known(address: str, request: bytes) -> bool:
    status, _, der = http_request(address, "POST", "/ocsp", body=request, headers=_TYPE)
    response = ocsp.load_der_ocsp_response(der) if status == 200 else None
    return (
        response is not None
        and response.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL
        and response.certificate_status == ocsp.OCSPCertStatus.GOOD
    )


def _crl_number(topology: Topology) -> int:
    authorities = topology.ca.admin.get("/v1/status")["authorities"]
    return int(next(one["crl_number"] for one in authorities if one["name"] == "issuing"))


def _crl_at_va(topology: Topology) -> dict[str, str]:
    status, headers, _ = http_request(topology.va.listen["status"], "HEAD", "/crl/issuing.crl")
    if status != 200:
        raise RuntimeError(f"the VA answered {status} for the list")
    return headers


class PeakMemory:
    """The most memory that an agent and its workers hold, from now on."""

    def __init__(self, agent: Agent) -> None:
        own = agent.running.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        self._pids = [own, *map(int, children)]
        for pid in self._pids:
            # proc(5): VmHWM begins anew at what is resident.
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._kib("VmRSS:")

    def growth_mib(self) -> float:
        """Return how much more than at the beginning it was at most."""
        return max(0, self._kib("VmHWM:") - self._before) / 1024

    def _kib(self, key: str) -> int:
        return sum(
            int(line.split()[1])
            for pid in self._pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith(key)
        )


class OcspClient:
    """Asks one thing over a kept connection, again and again, and remembers how long it took."""

    def __init__(self, address: str, request: bytes) -> None:
        self._address = address
        self._request = request
        self._seconds: list[float] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ask_until_the_end)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def percentile_ms(self, share: float) -> float:
        """Return the latency that this share of the requests kept below."""
        ordered = sorted(self._seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    def _ask_until_the_end(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            while not self._ends.wait(_ASK_EVERY_SECONDS):
                begun = time.perf_counter()
                connection.request("POST", "/ocsp", self._request, _TYPE)
                answer = connection.getresponse()
                answer.read()
                self._seconds.append(time.perf_counter() - begun)
                if answer.status != 200:
                    raise RuntimeError(f"OCSP answered {answer.status}")
        except Exception as error:  # the thread's root: raised again where it is waited for
            self._failure = error
        finally:
            connection.close()


_TYPE = {"Content-Type": "application/ocsp-request"}

CRL = Benchmark(
    name="crl",
    title="A long CRL",
    unit="s",
    method=(
        f"A CA has {ENTRIES:,} revoked certificates (SQLite). Timed is from the revocation of one "
        "more until the CA has signed and stored the new list; va_seconds until clients of its VA "
        "get it. The growth is how much more memory each node held at most meanwhile, its workers "
        "included. ocsp_p99_ms and ocsp_longest_ms are what one OCSP client of the VA waits "
        "meanwhile, every 2 ms a request. CA, VA, RA and client share all cores."
    ),
    prepare=_prepare,
    bars=(
        Bar(ours=NAME, factor=10, at_most=True),
        Bar(ours=NAME, factor=64, at_most=True, key="ca_growth_mib"),
        Bar(ours=NAME, factor=64, at_most=True, key="va_growth_mib"),
    ),
)
